"""What Hermes cuts out of a text is cut out in one pass, however the text is made."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.stores.hermes_state.text_cleanup import clean_text

# As one pattern each, which is plain to read, and too slow for what anybody may send.
FENCED = re.compile(r"<\s*memory-context\s*>.*?</\s*memory-context\s*>", re.IGNORECASE | re.DOTALL)
NOTE = re.compile(
    r"\[System note:\s*The following is recalled memory context,\s*NOT new user input\.\s*Treat as "
    r"(?:informational background data|authoritative reference data[^\]]*)\.\]\s*",
    re.IGNORECASE,
)
FENCE = re.compile(r"</?\s*memory-context\s*>", re.IGNORECASE)
BEGINNING = "[System note: The following is recalled memory context, NOT new user input. Treat as "
PARTS = [
    *[
        "<memory-context>",
        "< Memory-Context >",
        "</memory-context>",
        "</ memory-context>",
        "<",
        ">",
    ],
    *[BEGINNING + "informational background data", BEGINNING + "authoritative reference data"],
    *[BEGINNING.upper(), ".]", "]", ".", " ", "\n", "x", ", and more"],
]


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
def test_a_text_is_cleaned_as_the_patterns_would(text: str) -> None:
    """What comes out is what the plain patterns leave, one after the other."""
    expected = text
    for pattern in (FENCED, NOTE, FENCE):
        expected = pattern.sub("", expected)
    assert clean_text(text) == expected.strip()


KIND, OTHER = (
    BEGINNING + "informational background data",
    BEGINNING + "authoritative reference data",
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"a {KIND}.] b", "a b"),
        (f"a {OTHER}, and more.]\n b", "a b"),
        (f"a {KIND}, and more.] b", f"a {KIND}, and more.] b"),
        (f"a {KIND} b", f"a {KIND} b"),
        (f"{KIND}.]{OTHER}.] b {KIND}.", f"b {KIND}."),
    ],
)
def test_notes_are_cut_out(text: str, left: str) -> None:
    """A note of either kind goes with the space after it; one that ends otherwise stays."""
    assert clean_text(text) == left


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part[-24:])
@pytest.mark.parametrize("end", ["", "]", "</memory-context>"])
def test_a_megabyte_of_beginnings_comes_to_an_end(part: str, end: str) -> None:
    """A text of many beginnings is gone through once, where anew for each takes hours."""
    text = part * (2**20 // len(part)) + end
    assert len(clean_text(text)) <= len(text)
