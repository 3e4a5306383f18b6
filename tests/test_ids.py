"""Session ids: what is one, and what is none."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes_session_mw import is_session_id, mint_session_id
from hermes_session_mw.ids import is_header_safe

GRAMMAR = string.ascii_letters + string.digits + "_.:~-"

VALID = [
    "a",
    "0",
    "-",
    ".",
    "~",
    "_",
    ":",
    "a" * 256,
    "desk-1790000000000-2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d",
    "agent:main:webui:dm:user-42",
    "api-3f2a9c0d1b4e5f67",
    "1:a",
    "ab:c",
    ":a",
    "a.b.c",
    "-.-",
]

INVALID = {
    "empty": "",
    "one too long": "a" * 257,
    "a megabyte": "a" * 1_000_000,
    "parent folder": "..",
    "parent folder inside": "a..b",
    "parent folder at the end": "a..",
    "drive prefix": "C:secret",
    "drive prefix alone": "c:",
    "slash": "a/b",
    "backslash": "a\\b",
    "space": "a b",
    "leading space": " a",
    "trailing line feed": "a\n",
    "CR LF injection": "a\r\nset-cookie: x=1",
    "NUL": "a\0b",
    "tab": "a\tb",
    "delete": "a\x7fb",
    "comma list": "a,b",
    "quoted": '"a"',
    "percent-encoded": "a%2Fb",
    "Latin-1": "caf\xe9",
    "UTF-8 read as Latin-1": "\xc3\xa9",
    "a digit that is not ASCII": "\u0664",
    "a letter that is not ASCII": "\uff41",
    "Kelvin sign, which lower-cases to k": "\u212a",
    "SQL": "' OR 1=1 --",
    "template": "{{7*7}}",
}


@pytest.mark.parametrize("value", VALID)
def test_an_id_of_the_grammar_is_accepted(value: str) -> None:
    """Ids as clients and platforms make them are taken as they are."""
    assert is_session_id(value)


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID.keys())
def test_anything_else_is_refused(value: str) -> None:
    """What Hermes refuses, what no header can carry, and all that is not in the grammar."""
    assert not is_session_id(value)


@given(st.text(st.characters(max_codepoint=255), max_size=300))
@example("a\n")
def test_the_grammar_is_what_it_says(value: str) -> None:
    """An id is 1 to 256 of the listed characters, without '..' and without a drive prefix."""
    expected = (
        1 <= len(value) <= 256
        and all(char in GRAMMAR for char in value)
        and ".." not in value
        and not (len(value) > 1 and value[0] in string.ascii_letters and value[1] == ":")
    )
    assert expected == is_session_id(value)


@given(st.text(GRAMMAR, min_size=1, max_size=256))
def test_an_id_of_the_grammar_can_stand_in_a_header(value: str) -> None:
    """No accepted id can break the response that it is stamped on."""
    assert is_header_safe(value)


def test_minted_ids_are_valid_and_never_alike() -> None:
    """A minted id is 128 random bits in the grammar."""
    ids = {mint_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_session_id(value) and len(value) == 32 for value in ids)
