"""Reading and stamping raw headers."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import ConfigurationError
from hermes_session_mw.headers import field_name, field_values, stamp

from .asgi import HEADER

Pair = tuple[bytes, bytes]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([(HEADER, b"a")], [b"a"]),
        ([(b"X-Hermes-Session-ID", b"a")], [b"a"]),
        ([(HEADER, b" \t a \t")], [b"a"]),
        ([(HEADER, b"")], []),
        ([(HEADER, b" \t ")], []),
        ([(HEADER, b"\x0b")], [b"\x0b"]),
        ([(HEADER, b"\xa0")], [b"\xa0"]),
        ([(HEADER, b"a"), (HEADER, b"a")], [b"a", b"a"]),
        ([(HEADER, b""), (HEADER, b"a")], [b"a"]),
        ([(b"x-hermes-session-ids", b"a"), (b"x-hermes-session-i", b"b")], []),
        ([(b"x_hermes_session_id", b"a")], []),
        ([[HEADER, b"a"]], [b"a"]),
    ],
)
def test_values_are_found_whatever_the_case(headers: list[Pair], expected: list[bytes]) -> None:
    """Every value is found and trimmed of spaces and tabs alone; blank ones do not count."""
    assert expected == field_values(headers, HEADER)


SHAPES: dict[str, Callable[[list[Pair]], Iterable[Iterable[bytes]]]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda pairs: (pair for pair in pairs),
    "lists for pairs": lambda pairs: [list(pair) for pair in pairs],
    "iterators for pairs": lambda pairs: [iter(pair) for pair in pairs],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_any_iterable_of_pairs_is_stamped(shape: Callable[..., Any]) -> None:
    """Headers may be any iterable of two-item iterables; their order stays."""
    pairs = [(b"b", b"1"), (b"X-HERMES-session-id", b"old"), (b"a", b"2"), (b"b", b"3")]
    stamped = stamp(shape(pairs), HEADER, b"new")
    assert stamped == [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (HEADER, b"new")]


def test_the_given_headers_are_not_changed() -> None:
    """An application may send the same list again and again."""
    headers = [(HEADER, b"old")]
    stamp(headers, HEADER, b"new")
    assert headers == [(HEADER, b"old")]


names = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([HEADER, HEADER.upper(), b"X-Hermes-Session-Id", b"set-cookie"]),
)


@given(st.lists(st.tuples(names, st.binary(max_size=30))))
def test_a_stamp_stands_once_and_all_else_stays(headers: list[Pair]) -> None:
    """Whatever the application sent, the id stands once and everything else as it was."""
    stamped = stamp(headers, HEADER, b"id")
    others = [pair for pair in headers if pair[0].lower() != HEADER]
    assert stamped == [*others, (HEADER, b"id")]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "\xe9", "a(b)", '"a"'])
def test_a_name_that_no_header_can_have_is_refused(name: str) -> None:
    """A header name that would break every response is refused when the middleware is made."""
    with pytest.raises(ConfigurationError, match="header_name"):
        field_name(name)


def test_a_name_goes_out_in_lower_case() -> None:
    """ASGI wants response header names in lower case."""
    assert field_name("X-Thread") == b"x-thread"
