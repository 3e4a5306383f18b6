"""Messages come back exactly as they went in, or are refused."""

import json
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import InvalidMessage, MessageTooLarge, StoreCorrupt, TurnTooLong
from hermes_session_mw.messages import copy_and_encode, decode_messages, encode_messages
from hermes_session_mw.testing import example_messages
from tests.support import json_values


def same(left: Any, right: Any) -> bool:
    """Tell whether both are alike in values, types and the order of keys."""
    return json.dumps(left) == json.dumps(right) and left == right


@given(st.lists(json_values.messages, min_size=1, max_size=5))
def test_any_json_object_comes_back_as_it_went_in(messages: list[dict[str, Any]]) -> None:
    """Values, types and the order of keys survive the way there and back."""
    assert same(messages, decode_messages(encode_messages(messages)))


@pytest.mark.parametrize("message", [*example_messages.REALISTIC, *example_messages.FINE.values()])
def test_messages_of_the_field_come_back_as_they_went_in(message: dict[str, Any]) -> None:
    """The OpenAI format's shapes survive, with unicode, nulls and empty strings."""
    assert same([message], decode_messages(encode_messages([message])))


@pytest.mark.parametrize(
    ("message", "problem"),
    example_messages.NOT_STORABLE.values(),
    ids=example_messages.NOT_STORABLE.keys(),
)
def test_what_would_not_come_back_is_refused(message: Any, problem: str) -> None:
    """A message that JSON cannot hold, or would change, is refused with its place and the cause."""
    with pytest.raises(InvalidMessage, match=f"message 1 .*{problem}.*nothing was stored"):
        encode_messages([{"role": "user"}, message])


@given(st.recursive(st.floats() | st.binary() | st.text(), lambda x: st.lists(x) | st.tuples(x)))
def test_any_python_value_is_stored_exactly_or_refused(value: Any) -> None:
    """There is nothing between coming back exactly and being refused."""
    try:
        bodies = encode_messages([{"x": value}])
    except InvalidMessage:
        return
    assert [{"x": value}] == decode_messages(bodies)


@given(st.lists(json_values.messages, min_size=1, max_size=5))
def test_copies_have_the_texts_that_are_read_as_them(messages: list[dict[str, Any]]) -> None:
    """What is copied and encoded at once is what encoding and decoding return."""
    taken = copy_and_encode(messages)
    assert taken.bodies == encode_messages(messages) == encode_messages(taken)
    assert same(list(taken), decode_messages(taken.bodies))


class _Text(str):
    """A string of another type, as an enumeration's members are."""

    __slots__ = ()


@pytest.mark.parametrize(
    "message",
    [
        {"role": _Text("user"), "content": "a"},
        {_Text("role"): "user", "content": "a"},
        OrderedDict(role="user", content="a"),
    ],
    ids=["value", "key", "dict"],
)
def test_copies_are_plain_json(message: dict[str, Any]) -> None:
    """Subclasses of dict and str are copied as what a load returns."""
    (copy,) = copy_and_encode([message])
    assert type(copy) is dict
    assert {type(each) for pair in copy.items() for each in pair} == {str}
    assert copy == message


@given(st.dictionaries(st.text(), st.text(), max_size=3))
def test_plain_texts_are_stored_exactly_or_refused(message: dict[str, str]) -> None:
    """A dict of strings, which is not read back, is what the standard library reads."""
    try:
        (body,) = encode_messages([message])
    except InvalidMessage:
        assert any("\ud800" <= char <= "\udfff" for char in "".join(sum(message.items(), ())))
        return
    assert same(message, json.loads(body))


@pytest.mark.parametrize("more", [0, 1])
def test_encoded_messages_have_the_limits_of_others(more: int) -> None:
    """Texts that were made before are counted, and refused with the same errors."""
    taken = copy_and_encode([{"content": "e"}, {"content": "\u00e9" * (40 + more)}])
    for messages in (taken, list(taken)):
        if not more:
            assert encode_messages(messages, 94, 2) == taken.bodies
            continue
        with pytest.raises(MessageTooLarge, match="message 1 takes 96 bytes"):
            encode_messages(messages, 94, 2)
        with pytest.raises(TurnTooLong, match="2 messages, and may have 1"):
            encode_messages(messages, 96, 1)


def test_stored_texts_hold_no_control_characters() -> None:
    """A NUL in a message is escaped, so that every database can hold it."""
    (body,) = encode_messages([{"content": "\x00\x1f"}])
    assert body == '{"content":"\\u0000\\u001f"}'


@pytest.mark.parametrize(
    ("content", "fits"), [("x" * 86, True), ("x" * 87, False), ("é" * 44, False)]
)
def test_the_size_limit_counts_bytes_of_utf8(content: str, *, fits: bool) -> None:
    """A message may take just as many bytes as the limit says."""
    message = {"content": content}
    if fits:
        assert len(encode_messages([message], max_bytes=100)[0].encode()) == 100
    else:
        with pytest.raises(InvalidMessage, match=r"takes 10\d bytes .* takes 100"):
            encode_messages([message], max_bytes=100)


def test_an_empty_append_is_refused() -> None:
    """A turn without messages is a mistake of the caller's."""
    with pytest.raises(InvalidMessage, match="no message"):
        encode_messages([])


@pytest.mark.parametrize("body", ["", "{", "{}, {}", '{"a":NaN', "[" * 100_000])
def test_a_stored_text_that_is_no_json_is_corruption(body: str) -> None:
    """Damage in the database is told as what it is."""
    with pytest.raises(StoreCorrupt, match="backup"):
        decode_messages([body])
