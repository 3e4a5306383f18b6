"""The first words of a conversation are one line of what its user said, whatever that is."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes_session_mw import first_words
from hermes_session_mw.stores.first_words import (
    first_words_of,
    first_words_of_json,
    parse_beginning,
)
from hermes_session_mw.stores.validation import check_title

TEXT = {"type": "text", "text": "b  c"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1e8\U0001f1ed"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a", "a"),
        (" a\n\n`b`\0c ", "a b c"),
        ("a\u202eb\u2066c\ufeffd", "a b c d"),
        (["a", TEXT], "a b c"),
        ([PICTURE, TEXT], "b c"),
        ([{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}], "one two"),
        ([PICTURE], ""),
        ([None, 1], ""),
        (None, ""),
        ({"text": "x"}, "x"),
        ("", ""),
        (" " * 9999 + "late", "late"),
        ("word " * 99, "word word word word…"),
        ("word word word words", "word word word words"),
        ("word word word wordss", "word word word…"),
        ("word word word 1234 x", "word word word 1234…"),
        ("x" * 99, "x" * 19 + "…"),
        ("\u4f60\u597d" * 20, "\u4f60\u597d" * 9 + "\u4f60…"),
        # Markdown
        ("# Plan\n\n- **buy** milk", "Plan buy milk"),
        ("> 1. quoted", "quoted"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("see [the docs](http://x.org/a) now", "see the docs now"),
        ("![a cat](cat.png) ~~no~~", "a cat no"),
        ("*so* __init__ a_b_c", "so __init__ a_b_c"),
        ("2 * 3 * 4, a*b*c", "2 * 3 * 4, a*b*c"),
        ("#hash -1 1.5", "#hash -1 1.5"),
        ("# ", "#"),
        ("***", "***"),
        # characters of several code points
        ("e\u0301" * 30, "e\u0301" * 9 + "…"),
        (FAMILY * 9, FAMILY * 3 + "…"),
        (FLAG * 30, FLAG * 9 + "…"),
        ("\u1112\u1161\u11ab" * 30, "\u1112\u1161\u11ab" * 6 + "…"),
    ],
)
def test_first_words_are_one_line(content: Any, words: str) -> None:
    """They are the text's beginning without marks and breaks, cut between words or characters."""
    assert first_words({"role": "user", "content": content}, 20) == words


def test_the_first_user_who_says_something_counts() -> None:
    """Neither instructions nor answers count, nor pictures alone, nor what is a framework's."""
    history: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "hello"},
        {"hermes_item": {"x": 1}},
        {"n": 1},
        {"role": "user", "content": [PICTURE]},
        {"role": "user", "content": [PICTURE, TEXT]},
        {"role": "user", "content": "z"},
    ]
    assert first_words_of(history) == "b c"
    assert first_words_of(history[:5]) == first_words_of([]) == ""
    assert first_words_of_json([json.dumps(each) for each in history]) == "b c"
    with pytest.raises(ValueError, match="max_length"):
        first_words(history[-1], 0)


TEXTS = st.text(st.characters(), max_size=200) | st.text(
    st.sampled_from(f"ab \n\t#*-~>`[]()!_{FAMILY}{FLAG}\u0301\ufe0f\U0001f3fd\u4f60\ud800"),
    max_size=80,
)


@given(TEXTS, st.integers(1, 70))
@example("\u0301" * 50, 10)
def test_first_words_are_a_title(text: str, most: int) -> None:
    """Every store takes them, they are printable and not too long, and doing it twice is the same.

    A text that is one line and short enough, without any mark, is unchanged.
    """
    found = first_words({"role": "user", "content": text}, most)
    assert len(found) <= most
    assert found.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert found == found.strip()
    check_title(found)
    if text.isalnum() and len(text) <= most:
        assert found == text
    if not text.isspace() and any(char.isalnum() for char in text[: most * 4]) and most > 1:
        assert found


@given(st.text(st.sampled_from("ab \u4f60"), min_size=1, max_size=90), st.integers(2, 30))
def test_no_word_is_cut_where_another_fits(text: str, most: int) -> None:
    """What was left out begins a word, unless one alone is too long."""
    found = first_words({"content": text}, most)
    line = " ".join(text.split())
    if found != line:
        assert found.endswith("…")
        kept = found[:-1]
        assert line.startswith(kept)
        assert line[len(kept)] == " " or " " not in kept


@given(st.text(st.sampled_from(f"ab{FAMILY}{FLAG}e\u0301"), max_size=60), st.integers(8, 20))
def test_no_character_is_cut(text: str, most: int) -> None:
    """No mark, joiner or half of a flag begins what was left out, where one boundary fits."""
    found = first_words({"content": text}, most)
    line = " ".join(text.split())
    if found == line or not found:
        return
    rest = line[len(found) - 1 :]
    has_boundary = any(char in "ab" for char in found[1:-1])
    if has_boundary:
        assert rest[0] != "\u200d"
        assert not unicodedata.combining(rest[0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.integers(0, 200), st.booleans())
def test_the_beginning_of_json_is_read(value: Any, at: int, ascii_only: bool) -> None:
    """Wherever a JSON object is cut off, what was whole before is read, and nothing is raised."""
    text = json.dumps({"first": "kept", "rest": value}, ensure_ascii=ascii_only)
    assert parse_beginning(text) == {"first": "kept", "rest": value}
    found = parse_beginning(text[: 17 + at])
    assert found["first"] == "kept"
    for size in range(17):
        parse_beginning(text[:size])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.integers(40, 120))
def test_a_long_text_is_told_by_its_beginning(text: str, at: int) -> None:
    """The words of a message that is cut off begin as those of the whole one."""
    whole = json.dumps({"role": "user", "content": "head " + text + " tail" * 30})
    words = first_words_of_json([whole[: at + 10]])
    assert words.startswith("head")
    assert first_words_of_json(["", "{", "[1", '"x', whole]).startswith("head")
    assert first_words_of_json([json.dumps({"content": "a", "role": "assistant"})]) == ""
