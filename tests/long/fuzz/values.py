"""Header lines as clients, proxies and attackers might send them, from a seeded generator."""

import random
import string
from collections.abc import Callable, Iterator

from hermes_session_mw.ids import is_session_id

GRAMMAR = (string.ascii_letters + string.digits + "_.:~-").encode()
NAMES = (b"X-Hermes-Session-Id", b"x-hermes-session-id", b"X-HERMES-SESSION-ID")

Line = tuple[bytes, bytes]


def lines(count: int, seed: int, *, most: int = 70_000) -> Iterator[list[Line]]:
    """Yield the header lines of ``count`` requests; no value is longer than ``most`` bytes."""
    source = random.Random(seed)  # to be repeatable
    for _ in range(count):
        many = source.choices((0, 1, 2, 3), weights=(1, 40, 4, 1))[0]
        yield [(source.choice(NAMES), value(source)[:most]) for _ in range(many)]


def value(source: random.Random) -> bytes:
    """Return one value, of one of many kinds."""
    return source.choices(KINDS, weights=WEIGHTS)[0](source)


def expected_id(request: list[Line]) -> str | None:
    """Return the id that must be echoed; None where a new one must be made."""
    values = [stripped for _, value in request if (stripped := value.strip(b" \t"))]
    if len(values) == 1 and is_session_id(text := values[0].decode("latin-1")):
        return text
    return None


def is_refused(request: list[Line]) -> bool:
    """Tell whether the request must be answered 400."""
    return expected_id(request) is None and any(value.strip(b" \t") for _, value in request)


def an_id(source: random.Random) -> bytes:
    return bytes(source.choices(GRAMMAR, k=source.choice((1, 8, 32, 64, 255, 256, 257))))


def padded(source: random.Random) -> bytes:
    blanks = (b"", b" ", b"\t", b" \t ", b"\x0b", b"\xa0")
    return source.choice(blanks) + an_id(source) + source.choice(blanks)


def broken(source: random.Random) -> bytes:
    good = an_id(source)
    at = source.randrange(len(good) + 1)
    return good[:at] + bytes([source.randrange(256)]) + good[at:]


def noise(source: random.Random) -> bytes:
    return source.randbytes(source.choice((0, 1, 2, 16, 200, 300)))


def visible(source: random.Random) -> bytes:
    return bytes(source.choices(range(0x21, 0x7F), k=source.choice((1, 5, 40, 256))))


def text(source: random.Random) -> bytes:
    points = [source.randrange(0x80, 0xD800) for _ in range(source.randrange(1, 40))]
    return "".join(map(chr, points)).encode()


def known_trick(source: random.Random) -> bytes:
    return source.choice(TRICKS)


def long(source: random.Random) -> bytes:
    return an_id(source) * source.choice((10, 100, 300))


TRICKS = (
    b"..",
    b"../../etc/passwd",
    b"a..b",
    b"C:\\x",
    b"c:x",
    b"/etc/passwd",
    b"a,b",
    b"a;b",
    b'"a"',
    b"a%0d%0aset-cookie:x=1",
    b"a\r\nset-cookie: x=1",
    b"a\n b",
    b"a\x00b",
    b"' OR 1=1 --",
    b"${jndi:ldap://x}",
    b"<script>",
    b"null",
    b"undefined",
    b"[object Object]",
    b"\xef\xbb\xbfa",
    b"\xff\xfe",
)

Kind = Callable[[random.Random], bytes]
KINDS: tuple[Kind, ...] = (an_id, padded, broken, noise, visible, text, known_trick, long)
WEIGHTS = (30, 10, 30, 15, 10, 5, 10, 1)
