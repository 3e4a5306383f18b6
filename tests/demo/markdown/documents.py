"""Texts for the parsers: well-formed documents of what they claim, and messy ones."""

import itertools
import re

from hypothesis import strategies as st

# Links are of mailto: an address of http that is no link in CommonMark is one as GitHub has it.
WORDS = (
    "a", "b c", "é", "“q”", "😀", "1", ".", "-", "=", "#", "(", ")", "!", "<", "\\*", "&amp;",
    "&lt;", "&#38;", "*a*", "**b**", "_c_", "__d__", "***e***", "~~s~~", "`f`", "`` g`h ``",
    "[i](mailto:j)", '[k](mailto:l "m")', "[n](<mailto:o>)", "![p](mailto:q)", "<mailto:r@s>", "[t](ftp://u)",
    "[*v*](mailto:w)", "**x *y* z**",
)  # fmt: skip
PIECES = (
    *WORDS, "*", "**", "***", "_", "__", "~", "`", "``", "[", "]", "![", "](", "  ", "|", "\\|",
    "a|b",
)  # fmt: skip
STARTS = (
    "", "", "- ", "* ", "+ ", "1. ", "2) ", "10. ", " ", "  ", "   ", "> ", ">", "# ", "## ",
    "###### ", "```", "~~~", "```py", "---", "***", "===", "|", "- [ ] t", "1. [x] t", "-",
    "1.", "# x #", "  - ", "   1. ", "|-|-|", "|:-|-:|", "a|b", "-|-",
)  # fmt: skip
ENDS = ("", "", "", "  ", "\\")

_TABLE_BELOW = re.compile(r"[\s|:-]+")
_RULE_BELOW = re.compile(r"\s*-+\s*")
_CONTAINER = re.compile(r"\s*(?:[-+*>#]|\d+[.)]|```|~~~)")


@st.composite
def messy_texts(draw: st.DrawFn) -> str:
    """Return lines of marks in any order, most of which do not belong together."""
    lines = st.builds(
        lambda starts, glue, pieces, end: "".join(starts) + glue.join(pieces) + end,
        st.lists(st.sampled_from(STARTS), max_size=3),
        st.sampled_from(("", " ")),
        st.lists(st.sampled_from(PIECES), max_size=6),
        st.sampled_from(ENDS),
    )
    text = "\n".join(draw(st.lists(lines, min_size=1, max_size=8))).rstrip() + "\n"
    return "" if is_read_in_two_ways(text) else text


def is_read_in_two_ways(text: str) -> bool:
    """Tell the few texts that markdown-it-py and CommonMark's own programs read differently.

    It takes the first line of a table before it looks for containers, ends a paragraph at an
    indented line in an item, and has tasks that are no paragraphs, and longer runs of tildes.
    A link to nowhere is meant to be text.
    """
    lines = text.split("\n")
    pairs = list(itertools.pairwise(lines))
    return (
        any("|" in a and _RULE_BELOW.fullmatch(b) for a, b in pairs)
        or any("|" in a and _CONTAINER.match(a) and _TABLE_BELOW.fullmatch(b) for a, b in pairs)
        or any(line.startswith("    ") for line in lines)
        or re.search(r"(?<!\n)~{3,}|\[[ xX]\] (?!t)|[-+*.)] (?:```|~~~)|\\ |\]\([ \n]*\)", text)
        is not None
    )


def _lines(most: int) -> st.SearchStrategy[str]:
    words = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)
    line = st.builds(lambda first, rest: f"{first} {rest}".rstrip(), st.sampled_from("abc"), words)
    end = st.sampled_from(("", "", "  ", "\\"))
    return st.lists(st.builds(str.__add__, line, end), min_size=1, max_size=most).map("\n".join)


def _tables() -> st.SearchStrategy[str]:
    cells = st.sampled_from(("a", "*b*", "`c\\|d`", "", "e f", "\\|", "[g](mailto:h)"))
    align = st.sampled_from(("-", ":-", "-:", ":-:", "---"))

    def table(columns: int) -> st.SearchStrategy[str]:
        row = st.lists(cells, min_size=columns, max_size=columns).map(
            lambda row: f"| {' | '.join(row)} |"
        )
        delimiters = st.lists(align, min_size=columns, max_size=columns).map(
            lambda row: f"|{'|'.join(row)}|"
        )
        rows = st.lists(row, max_size=3).map("\n".join)
        return st.builds(lambda *parts: "\n".join(filter(None, parts)), row, delimiters, rows)

    return st.integers(1, 4).flatmap(table)


def _code() -> st.SearchStrategy[str]:
    line = st.sampled_from(("", "a", "    b", "c\td", "# d", "- e", "<f>", "*g*", "``"))
    lines = st.lists(line, max_size=4).map("\n".join)
    fences = st.sampled_from(
        (("```py", "```"), ("~~~", "~~~~"), ("````sh x", "````"), ("~~~ a`b", "~~~"))
    )
    return st.builds(lambda fence, code: f"{fence[0]}\n{code}\n{fence[1]}", fences, lines)


def _indented(first: str, text: str) -> str:
    """Return an item: its marker before the first line, and as much space before the others."""
    rest = " " * len(first)
    lines = text.split("\n")
    return "\n".join([first + lines[0], *(rest + line if line else "" for line in lines[1:])])


@st.composite
def _lists(draw: st.DrawFn, blocks: st.SearchStrategy[str]) -> str:
    marker = draw(st.sampled_from(("- ", "* ", "+   ", "1. ", "7) ", "123456789.  ")))
    tasks = draw(st.sampled_from(("", "", "[ ] ", "[x] ", "[X] ")))
    contents = draw(st.lists(st.one_of(blocks, _lines(2)), min_size=1, max_size=3))
    between = draw(st.sampled_from(("\n", "\n\n")))
    return between.join(
        _indented(marker, tasks + text if tasks and text[0] in "abc" else text) for text in contents
    )


def _containers(blocks: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quotes = st.lists(blocks, min_size=1, max_size=2).map(
        lambda texts: "\n".join(f"> {line}".rstrip() if not line.endswith("  ") else f"> {line}"
                                for line in "\n\n".join(texts).split("\n")))  # fmt: skip
    items = st.lists(blocks, min_size=1, max_size=2).map("\n\n".join)
    return st.one_of(quotes, _lists(items))


def documents() -> st.SearchStrategy[str]:
    """Make well-formed documents: all blocks, in each other."""
    headings = st.one_of(
        st.builds(
            "{} {}".format,
            st.sampled_from(("#", "##", "###", "####", "#####", "######")),
            _lines(1),
        ),
        st.builds("{}\n{}".format, _lines(2), st.sampled_from(("===", "-", "--------"))),
    )
    rules = st.sampled_from(("---", "***", "_ _ _"))
    indented = st.sampled_from(("    a\n\n      b", "    c"))
    leaves = st.one_of(_lines(3), _lines(3), headings, rules, _tables(), _code(), indented)
    blocks = st.recursive(leaves, _containers, max_leaves=6)
    return st.lists(blocks, min_size=1, max_size=4).map(lambda texts: "\n\n".join(texts) + "\n")
