"""Values that JSON cannot hold, escaped and back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import SQLAlchemyStore, check_keys
from hermes_session_mw.adapters.escaping import (
    ESCAPED,
    escape,
    escape_id,
    unescape,
    unescape_id,
)
from hermes_session_mw.messages import encode_messages
from tests.support import json_values

ANY_TEXT = st.text(st.characters(exclude_categories=[])) | st.sampled_from(
    ["\ud800", "\ud83d\udc4b", "\\ud800", "\\u005c\udfff\\", "\0", ESCAPED, "hermes-escaped:\0"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**4000, -(10**700), 10**600])
KEYS = ANY_TEXT | st.integers() | st.none() | st.booleans() | st.binary(max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | ANY_TEXT | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | inner.map(lambda value: {ESCAPED: value})
        | inner.map(escape)
    ),
    max_leaves=12,
)
ODD: list[Any] = [
    *(math.nan, math.inf, -math.inf, b"\0\xff", (1, (2,)), 10**5000, -(10**5000)),
    *("a\ud800b\\c", {"\udfff": 1}, {1: "x", "1": "y"}, {None: {b"k": [math.nan]}}),
    *({ESCAPED: ["float", "nan"]}, {ESCAPED: {ESCAPED: ["tuple", []]}}, escape(math.nan)),
]


def same(one: Any, other: Any) -> bool:
    """Compare as ``==`` does not: NaN with itself, and 1, 1.0 and True apart."""
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return same([[*each] for each in one.items()], [[*each] for each in other.items()])
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    return type(one) is type(other) and bool(one == other)


@given(VALUES)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    """What is escaped is a message's JSON, and is unescaped to the same value."""
    message = {"item": escape(value)}
    (body,) = encode_messages([message])
    assert same(unescape(json.loads(body)["item"]), value)


@given(json_values.values)
def test_plain_values_are_left_alone(value: Any) -> None:
    """A value of JSON alone is returned itself, in both directions."""
    assert escape(value) is value
    assert unescape(value) is value


@given(json_values.values, st.sampled_from(["text", "bytes", "float", "int", "tuple", "dict", 1]))
def test_what_is_no_escape_is_left_alone(data: Any, kind: Any) -> None:
    """Whatever others have stored is unescaped without an error, and escaped before, exactly."""
    for value in ({ESCAPED: data}, {ESCAPED: [kind, data]}, {ESCAPED: [kind, data], "a": 1}):
        unescape(value)
        assert same(unescape(escape(value)), value)


def test_only_what_needs_it_is_copied() -> None:
    """What is given is not changed, and its parts that hold nothing odd are the same objects."""
    plain = {"a": [1, {"b": None}]}
    value: dict[str, Any] = {"plain": plain, "odd": [math.nan]}
    escaped = escape(value)
    assert escaped == {"plain": plain, "odd": [{ESCAPED: ["float", "nan"]}]}
    assert escaped["plain"] is plain
    assert list(value) == ["plain", "odd"]
    assert math.isnan(value["odd"][0])


def test_what_no_store_takes_is_left_to_it() -> None:
    """A value that contains itself, and one that is no data, is not escaped, and no error."""
    circular: dict[str, Any] = {}
    circular["me"] = circular
    thing = object()
    assert escape(thing) is thing
    assert escape(circular) is circular


@given(ANY_TEXT)
def test_any_text_is_an_id(text: str) -> None:
    """An escaped text is one that a store takes as an id, and is unescaped to the same text."""
    escaped = escape_id(text)
    assert unescape_id(escaped) == text
    assert "\n" not in escaped
    if 0 < len(escaped) <= 256:
        check_keys(escaped, "")
    assert escape_id("app/user:7 \\ud800 \u00e9") == "app/user:7 \\ud800 \u00e9"


@pytest.mark.anyio
async def test_odd_values_come_back_from_a_database(tmp_path: Path) -> None:
    """A store keeps escaped values as it keeps every message."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/chat.db")
    await store.append("id", [{"item": escape(value)} for value in ODD])
    history = await store.load("id")
    await store.aclose()
    read = [unescape(message["item"]) for message in history.messages]
    assert same(read, ODD)
