"""A JSON text has the same value by msgspec and by the standard library."""

import json
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.messages import encode_messages, fast_parser
from tests.support import json_values

parse = fast_parser()
assert parse is not json.loads, "msgspec is not installed"


def shown(value: Any) -> Any:
    """Return a value with its types, the bits of its floats and the order of its keys."""
    if isinstance(value, dict):
        return "dict", [(key, shown(each)) for key, each in value.items()]
    if isinstance(value, list):
        return "list", [shown(each) for each in value]
    if isinstance(value, float):
        return "float", struct.pack("d", value)
    return type(value).__name__, value


def outcome(function: Any, text: str) -> Any:
    try:
        return shown(function(text))
    except (ValueError, RecursionError) as exc:
        return RecursionError if isinstance(exc, RecursionError) else ValueError


NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
FRAGMENTS = st.sampled_from(
    [*'{}[],:"\\/ \n\t\x00\x7f', "\\u", "d800", "dc00", "\\ud83d\\ude00", "NaN", "Infinity", "null",
     "true", "1e999", "-0", "-0.0", "01", "1.", "é", "\U0001f600", '"a"', "\ufeff"]
)  # fmt: skip


@given(st.one_of(json_values.messages, st.lists(json_values.messages, max_size=3)), st.booleans())
def test_values_are_the_same(value: Any, ascii_only: bool) -> None:
    """Types, float bits, big integers and the order of keys are those of the standard library."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert outcome(parse, text) == outcome(json.loads, text)


@given(st.lists(NUMBERS, max_size=4))
def test_numbers_are_the_same(numbers: list[str]) -> None:
    """A number of any length and exponent is the same int, or the same float to its last bit."""
    text = f"[{','.join(numbers)}]"
    assert outcome(parse, text) == outcome(json.loads, text)


@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_what_is_hardly_json_is_taken_or_refused_alike(text: str) -> None:
    """A text that one of both refuses is refused by the other."""
    assert outcome(parse, text) == outcome(json.loads, text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": 2, "a": 3}',
        "[1e999, -1e999, 1e-999]",
        "[NaN, Infinity, -Infinity]",
        r'["\ud800", "\ud800\ud800", "\udc00\ud800"]',
        "[18446744073709551616, -9223372036854775809]",
        "[" * 900 + "]" * 900,
        "[" * 200_000 + "]" * 200_000,
        "[" + "1" * (sys.get_int_max_str_digits() + 1) + "]",
        "",
        " [1]\n",
        "\ufeff[]",
        '["\ud800"]',
    ],
    ids=lambda text: text[:20].encode("unicode-escape").decode(),
)
def test_where_both_differ_the_standard_library_decides(text: str) -> None:
    """What msgspec refuses, and what the standard library takes, comes out as by that one."""
    assert outcome(parse, text) == outcome(json.loads, text)


def test_without_msgspec_the_standard_library_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert fast_parser() is json.loads


@given(json_values.messages)
def test_what_may_be_stored_does_not_depend_on_the_parser(message: dict[str, Any]) -> None:
    """A message is stored, or refused, alike with and without msgspec."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hermes_session_mw.messages.parse_json", json.loads)
        plain = encode_messages([message])
    assert encode_messages([message]) == plain
