"""Reading and stamping raw headers."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import ConfigurationError
from hermes_session_mw.asgi.headers import content_length, header_names
from hermes_session_mw.asgi.middleware import HeaderNames, find_fields
from hermes_session_mw.asgi.response_stamper import SessionHeader
from tests.support.asgi import HEADER

Pair = tuple[bytes, bytes]
SESSION_ID = SessionHeader("X-Hermes-Session-Id")


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
    found = find_fields(headers, HeaderNames(HEADER, b"other-field"))
    assert found == [(HEADER, value) for value in expected]


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
    stamped = SESSION_ID.set_once(shape(pairs), b"new")
    assert stamped == [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (HEADER, b"new")]


def test_the_given_headers_are_not_changed() -> None:
    """An application may send the same list again and again."""
    headers = [(HEADER, b"old")]
    SESSION_ID.set_once(headers, b"new")
    SESSION_ID.stamp_response(headers, b"new")
    assert headers == [(HEADER, b"old")]


names = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([HEADER, HEADER.upper(), b"set-cookie", b"Vary", b"cache-control"]),
    st.sampled_from([b"access-control-allow-origin", b"access-control-expose-headers"]),
)


@given(st.lists(st.tuples(names, st.binary(max_size=30))))
def test_a_stamp_stands_once_and_all_else_stays(headers: list[Pair]) -> None:
    """Whatever the application sent, the id stands once and everything else as it was."""
    stamped = SESSION_ID.set_once(headers, b"id")
    others = [pair for pair in headers if pair[0].lower() != HEADER]
    assert stamped == [*others, (HEADER, b"id")]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "\xe9", "a(b)", '"a"'])
def test_a_name_that_no_header_can_have_is_refused(name: str) -> None:
    """A header name that would break every response is refused when the middleware is made."""
    with pytest.raises(ConfigurationError, match="header_name"):
        header_names(name)


@pytest.mark.parametrize(
    "name",
    [
        "Content-Length", "content-type", "Cookie", "set-cookie", "Authorization", "Host",
        "Connection", "Transfer-Encoding", "Vary", "Cache-Control", "Retry-After", "User-Agent",
        "Access-Control-Expose-Headers", "Sec-Fetch-Site", "Proxy-Authorization", "Accept-Encoding",
        "X-Hermes-Session-Key", "x-hermes-history-source", "X-Hermes-Turn", "idempotency-key",
        "Idempotency-Replayed", "X-Hermes-On-Disconnect",
    ],
)  # fmt: skip
def test_another_headers_name_is_refused(name: str) -> None:
    """A field that means something else, here or in HTTP, cannot carry a session's id."""
    for names in (name, ["X-Hermes-Session-Id", name]):
        with pytest.raises(ConfigurationError, match=name):
            header_names(names)


@pytest.mark.parametrize("names", [[], ["a", "A"], ["a", 1], [b"a"], ["a", ""]])
def test_a_list_of_names_that_cannot_be_is_refused(names: list[Any]) -> None:
    """There is a name, each is one, and no two are the same."""
    with pytest.raises(ConfigurationError, match="header_name"):
        header_names(names)


def test_a_name_goes_out_in_lower_case() -> None:
    """ASGI wants response header names in lower case."""
    assert SessionHeader("X-Thread").field == b"x-thread"


def fields(headers: list[Pair], *names: bytes) -> list[Pair]:
    """Return the fields of these names, in order."""
    return [(key.lower(), value) for key, value in headers if key.lower() in names]


ORIGIN = (b"access-control-allow-origin", b"https://app.example")
EXPOSE = b"access-control-expose-headers"
NAME = b"X-Hermes-Session-Id"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([(EXPOSE, b"etag")], [b"etag"]),
        ([ORIGIN], [NAME]),
        ([(ORIGIN[0].title(), b"*")], [NAME]),
        ([ORIGIN, (EXPOSE, b"ETag")], [b"ETag, " + NAME]),
        (
            [ORIGIN, (EXPOSE, b"a"), (b"Access-Control-Expose-Headers", b"b,")],
            [b"a", b"b, " + NAME],
        ),
        ([ORIGIN, (EXPOSE, b"")], [NAME]),
        (
            [ORIGIN, (EXPOSE, b"etag,x-hermes-SESSION-id , age")],
            [b"etag,x-hermes-SESSION-id , age"],
        ),
        ([ORIGIN, (EXPOSE, b"x-hermes-session-id-2")], [b"x-hermes-session-id-2, " + NAME]),
        ([ORIGIN, (EXPOSE, b"*")], [b"*"]),
        (
            [ORIGIN, (EXPOSE, b"*"), (b"access-control-allow-credentials", b"true")],
            [b"*, " + NAME],
        ),
    ],
)
def test_a_page_of_another_origin_can_read_the_id(
    headers: list[Pair], expected: list[bytes]
) -> None:
    """Where a response is readable from another origin, the header is exposed to it, once."""
    stamped = SESSION_ID.stamp_response(headers, b"id")
    assert [value for _, value in fields(stamped, EXPOSE)] == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], [(b"cache-control", b"private"), (b"vary", NAME)]),
        ([(b"vary", b"Accept")], [(b"vary", b"Accept, " + NAME), (b"cache-control", b"private")]),
        ([(b"Vary", b"*")], [(b"vary", b"*"), (b"cache-control", b"private")]),
        (
            [(b"vary", b"Accept"), (b"vary", b"Origin")],
            [(b"vary", b"Accept"), (b"vary", b"Origin, " + NAME), (b"cache-control", b"private")],
        ),
        (
            [(b"vary", b"Accept,X-HERMES-Session-Id")],
            [(b"vary", b"Accept,X-HERMES-Session-Id"), (b"cache-control", b"private")],
        ),
        (
            [(b"cache-control", b"no-store")],
            [(b"cache-control", b"no-store"), (b"vary", NAME)],
        ),
        (
            [(b"Cache-Control", b"max-age=60, private")],
            [(b"cache-control", b"max-age=60, private"), (b"vary", NAME)],
        ),
        (
            [(b"cache-control", b"max-age=60")],
            [(b"cache-control", b"max-age=60, private"), (b"vary", NAME)],
        ),
        ([(b"cache-control", b"no-cache")], [(b"cache-control", b"no-cache"), (b"vary", NAME)]),
        ([(b"cache-control", b"s-maxage=60")], [(b"cache-control", b"s-maxage=60")]),
        ([(b"cache-control", b"Public, max-age=60")], [(b"cache-control", b"Public, max-age=60")]),
        (
            [(b"cache-control", b"max-age=60"), (b"cache-control", b"public"), (b"vary", b"a")],
            [(b"cache-control", b"max-age=60"), (b"cache-control", b"public"), (b"vary", b"a")],
        ),
        (
            [(b"cache-control", b'no-cache="a, public, b"')],
            [(b"cache-control", b'no-cache="a, public, b"'), (b"vary", NAME)],
        ),
        ([(b"cache-control", b"")], [(b"cache-control", b"private"), (b"vary", NAME)]),
        (
            [(b"cache-control", b"must-revalidate")],
            [(b"cache-control", b"must-revalidate, private"), (b"vary", NAME)],
        ),
    ],
)
def test_a_shared_cache_hands_no_id_on(headers: list[Pair], expected: list[Pair]) -> None:
    """A response becomes private and varies by the header, unless it says that it is public."""
    stamped = SESSION_ID.stamp_response(headers, b"id")
    assert fields(stamped, b"cache-control", b"vary") == expected


@given(st.lists(st.tuples(names, st.binary(max_size=30))))
def test_a_response_is_stamped_once_and_twice_is_once(headers: list[Pair]) -> None:
    """A stamped response keeps what it had, and stamping it again changes nothing."""
    stamped = SESSION_ID.stamp_response(headers, b"id")
    listed = {HEADER, EXPOSE, b"vary", b"cache-control"}
    others = [pair for pair in headers if pair[0].lower() not in listed]
    kept = [pair for pair in stamped if pair[0].lower() not in listed]
    assert kept[: len(others)] == others
    assert fields(stamped, HEADER) == [(HEADER, b"id")]
    assert sorted(SESSION_ID.stamp_response(stamped, b"id")) == sorted(stamped)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([b"12"], 12),
        ([b"0"], 0),
        ([b"000"], 0),
        ([b"0" * 5000 + b"12"], 12),
        ([b"9" * 5000], 10**19 - 1),
        ([b"+1"], None),
        ([b"1_0"], None),
        ([b"\xb2"], None),
        ([b""], None),
        ([b"1", b"1"], None),
    ],
)
def test_a_length_is_read_whatever_its_digits(values: list[bytes], expected: int | None) -> None:
    """A number of any length is one, and what is no number is none."""
    assert content_length([(b"Content-Length", value) for value in values]) == expected
