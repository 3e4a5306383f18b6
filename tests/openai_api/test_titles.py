"""Titles are one line of what the user said first, whatever that is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.openai_api import title_of
from hermes_session_mw.stores.validation import check_title

TEXT = {"type": "text", "text": "b  c"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("a", "a"),
        (" a\n\n`b`\0c ", "a b c"),
        (["a", TEXT], "a b c"),
        ([PICTURE, TEXT], "b c"),
        ([PICTURE], "z"),
        ([None, 1], "z"),
        (None, "z"),
        ("word " * 99, "word " * 3 + "word…"),
        ("x" * 99, "x" * 19 + "…"),
    ],
)
def test_a_title_is_one_line(content: Any, title: str) -> None:
    """It is the text of the first message that has one, without what cannot be shown, cut."""
    history = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": content},
        {"role": "user", "content": "z"},
    ]
    assert title_of(history, 20) == title


def test_without_a_question_there_is_no_title() -> None:
    """What a model said alone makes none."""
    assert title_of([]) == title_of([{"role": "assistant", "content": "a"}]) == ""


@given(st.text(st.characters(), max_size=200))
def test_every_store_takes_a_title(text: str) -> None:
    """It has neither a NUL nor half a character, and is not too long."""
    title = title_of([{"role": "user", "content": text}])
    assert len(title) <= 60
    assert title.isprintable()
    check_title(title)
