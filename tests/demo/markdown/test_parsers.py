"""The page's Markdown parsers, in Node: what they read, how fast, and what a stream changes."""

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.demo.clients.npm import PACKAGES
from tests.demo.markdown.documents import documents, messy_texts
from tests.demo.markdown.examples import EXAMPLES
from tests.demo.markdown.node import Parsers, parsers
from tests.demo.markdown.oracle import markdown, tree
from tests.support.requirements import needs

ORACLE = markdown()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parsers]:
    """The parsers."""
    with parsers(tmp_path_factory.mktemp("markdown")) as running:
        yield running


def normal(tree: Any) -> Any:
    """Return a tree without the white space in code, of which markdown-it-py keeps more."""
    if isinstance(tree, list):
        if len(tree) == 2 and tree[0] == "code" and isinstance(tree[1], str):
            return ["code", " ".join(tree[1].split())]
        return [normal(each) for each in tree]
    return tree


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(documents(), messy_texts()))
def test_texts_are_read_as_by_markdown_it(node: Parsers, text: str) -> None:
    """What is made of the constructs that are claimed has the tree that markdown-it-py gives it."""
    assert normal(node.parse(text)) == normal(tree(ORACLE, text))


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(documents(), messy_texts()), data=st.data())
def test_what_is_complete_never_changes(node: Parsers, text: str, data: st.DataObject) -> None:
    """However a text is cut, what was closed stays as it was, and the end is as without cuts."""
    ends = data.draw(st.sampled_from(("\n", "\r\n", "\r")))
    given = text.replace("\n", ends)
    places = data.draw(st.lists(st.integers(0, len(given)), max_size=40).map(sorted))
    pieces = [
        given[start:end] for start, end in zip([0, *places], [*places, len(given)], strict=True)
    ]
    read = node.stream(pieces)
    assert read["faults"] == []
    assert read["tree"] == node.parse(text)


# What CommonMark's own examples have that is meant to differ. docs/demo.md tells why.
NAMED_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|copy|nbsp);)[A-Za-z]\w+;")
EMPTY_TARGET = re.compile(r"\]\(\)")
BARE = re.compile(r"(?<![<(])https://(?!\S*>)|< ?https://\S+ ")
MATH = re.compile(r"\\[(\[].*\\[)\]]")
DIFFERENT = (NAMED_ENTITY, EMPTY_TARGET, BARE, MATH)


def test_common_mark_s_examples(node: Parsers) -> None:
    """Each example that CommonMark publishes is read as it says, but for what is meant to differ.

    They come with an npm package. Their trees are markdown-it-py's, which passes all of them.
    """
    package = PACKAGES / "node_modules" / "commonmark-spec" / "spec.txt"
    needs(None if package.exists() else "no commonmark-spec: run 'make .npm-clients/.installed'")
    pattern = r"^`{32} example\n(.*?)^\.\n.*?^`{32}$"
    found = re.findall(pattern, package.read_text(), re.MULTILINE | re.DOTALL)
    examples = [text.replace("→", "\t") for text in found]
    other = [text for text in examples if node.parse(text) != tree(ORACLE, text)]
    assert [text for text in other if not any(each.search(text) for each in DIFFERENT)] == []
    assert (len(examples), len(other)) == (652, 16)
    for text in examples:
        assert node.stream(list(text)) == {"tree": node.parse(text), "faults": []}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_github_s_or_meant_to_differ(node: Parsers, name: str) -> None:
    """GitHub's constructs and the deliberate differences are as docs/demo.md has them."""
    text, wanted = EXAMPLES[name]
    assert node.parse(text) == wanted
    assert node.stream(list(text)) == {"tree": wanted, "faults": []}


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (("a\n", "-"), [["paragraph", ["a"]]]),  # no heading, since it may be a list
        (("> a\n", "> -"), [["quote", [["paragraph", ["a"]]]]]),
        (("a\n", "``"), [["paragraph", ["a"]]]),
        (("```\na\n", "``"), [["code", ["", "a"]]]),
        (("|a|\n", "|--"), [["paragraph", ["|a|"]]]),
        (("**a",), [["paragraph", ["**a"]]]),
    ],
)  # fmt: skip
def test_marks_without_an_end_are_not_shown_as_something_else(
    node: Parsers, texts: tuple[str, ...], shown: list[Any]
) -> None:
    """While a line's first marks come, what stands above it becomes no heading and no table."""
    assert node.shown(list(texts)) == shown


MANY = 20_000
HOSTILE = {
    "backticks": " ".join("`" * (number % 200 + 1) for number in range(MANY // 10)),
    "openers": "*a **b _c __d ~~e " * (MANY // 4),
    "closers": "a* b** c_ " * (MANY // 4),
    "both": "a*b**c" * MANY,
    "emphasis in emphasis": "*a " * MANY + "b* " * MANY,
    "brackets": "[" * MANY + "]" * MANY,
    "links in brackets": "[" * MANY + "[a](https://b)" * MANY,
    "images in images": "![a" * MANY + "](https://b)" * MANY,
    "links without an end": "[a](" * MANY,
    "targets without an end": "[a](<b" * MANY,
    "titles without an end": "[a](b \"c" * MANY + "[a](b 'c" * MANY + "[a](b (c" * MANY,
    "parentheses": "[a](" + "(" * MANY + ")" * MANY,
    "addresses": "https://" * MANY + "https://a/" + "(" * MANY + ")" * MANY,
    "addresses without a host": "http:///" * MANY + "https://?" * MANY,
    "angles": "<a@b<http://c<" * MANY,
    "entities": "&#1&a" * MANY,
    "formulas": "$a \\( $$b \\[ " * MANY,
    "blocks of formulas": "$$\na\n\\[\nb\n" * MANY,
    "quotes in quotes": ">" * MANY + "\n" + ("> " * 60 + "a\n") * 500,
    "lists in lists": "- " * MANY,
    "lists in lists of lines": "".join(f"{'  ' * depth}- a\n" for depth in range(1000)),
    "lazy lines": "> " * 60 + "a\n" + "b\n" * MANY,
    "fences": "```\n~~~\n" * MANY,
    "rules": "* " * MANY + "a\n" + "-" * MANY + "a",
    "headings": "#" * MANY + "\n# a" + " #" * MANY + "b\n# a" + " " * MANY + "#b",
    "tables": "|a" * MANY + "\n" + "|-" * MANY + "\n" + "|b" * MANY,
    "short rows": "|a" * 150 + "\n" + "|-" * 150 + "\n" + "b\n" * MANY,
    "heads of tables": "a|b\n" * MANY + "-|-|-\n" * MANY,
    "tabs": "\t-\t" * MANY,
    "spaces": ("a" + " " * 200 + "\n") * 200 + " " * MANY + "b",
    "line ends": "\r\n\r" * MANY,
    "escapes": "\\" * MANY + "\\*" * MANY,
    "everything": "*_`[!<&\n$\\~|>#-1." * MANY,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_takes_linear_time_and_is_not_deep(node: Parsers, name: str) -> None:
    """No text becomes deeper or more than its length, or takes the minutes of quadratic work."""
    text = HOSTILE[name]
    taken = node.measure(text)
    assert taken["depth"] <= 40 + 32 + 2
    assert taken["nodes"] <= 2 * len(text)


def test_a_stream_of_lines_is_read_once(node: Parsers) -> None:
    """Each line of a long answer is read once, and a second time at most while it has no end."""
    line = "- a *b* `c` and [d](https://e)\n"
    pieces = re.findall(r"(?s).{1,7}", line * 2000)
    counted = node.count_lines(pieces)
    assert counted <= 2000 + len(pieces)


def test_random_bytes_are_read(node: Parsers) -> None:
    """Any characters give a tree, and the same one in pieces."""
    random_ = random.Random(7)
    for _ in range(50):
        text = "".join(
            chr(random_.choice((random_.randrange(128), random_.randrange(0xD800), 0x1F426)))
            for _ in range(300)
        )
        read = node.stream(re.findall(r"(?s).{1,9}", text))
        assert read == {"tree": node.parse(text), "faults": []}
