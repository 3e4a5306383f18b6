"""What is looked at over HTTP/2: a function each, which returns a cell of the table."""

import itertools
import json
import time
from collections.abc import Callable

import h2.settings

from hermes_session_mw import SESSION_HEADER, is_session_id
from tests.integration.http2.targets import Target
from tests.support.certificates import trusting
from tests.support.http2 import Http2Client, Pairs, Stream, http2_client

WITHIN = 10.0
"""Seconds after which something counts as not noticed, or not come."""

FIELD = SESSION_HEADER.lower()
BLOCK = 16384
_numbers = itertools.count()


def named(id_: str) -> Pairs:
    """Return the header with an id."""
    return [(FIELD, id_)]


def new_name() -> str:
    """Return a name for a stream."""
    return f"stream-{next(_numbers)}"


def becomes(condition: Callable[[], bool], seconds: float = WITHIN) -> bool:
    """Tell whether something becomes true."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def get(target: Target, path: str, headers: Pairs = ()) -> Stream:
    """Return the whole of a response, over a connection of its own."""
    with http2_client(target.port, tls=trusting()) as client:
        return client.wait(client.request(path, headers))


def version(target: Target) -> str:
    """Tell which version of HTTP the application sees."""
    return str(json.loads(get(target, "/seen").body)["version"])


def ids(target: Target) -> str:
    """A page and a 500 have the client's id, and a refusal a new one, each of them once."""
    for path, status in [("/seen", 200), ("/raising", 500)]:
        stream = get(target, path, named("known"))
        assert (stream.status, stream.all(FIELD)) == (status, ["known"]), path
    refused = get(target, "/seen", named("a b"))
    (minted,) = refused.all(FIELD)
    assert refused.status == 400
    assert is_session_id(minted)
    return "one"


def twice(target: Target) -> str:
    """Tell what becomes of a request with two ids."""
    stream = get(target, "/seen", [*named("one"), *named("two")])
    return f"{stream.status}{', stamped' if len(stream.all(FIELD)) == 1 else ', no id'}"


def large(target: Target) -> str:
    """Tell what becomes of a field of 20 kB."""
    with http2_client(target.port, tls=trusting()) as client:
        number = client.request("/seen", [("x-large", "x" * 20480)])
        try:
            stream = client.wait(number)
        except ConnectionError:
            stream = client.streams[number]
        if stream.status is not None:
            return f"{stream.status}{'' if stream.all(FIELD) else ', no id'}"
        return "GOAWAY" if client.going_away is not None else "reset"


def streams(target: Target) -> str:
    """Tell how many streams a connection may have at once."""
    with http2_client(target.port, tls=trusting()) as client:
        client.wait(client.request("/seen"))
        return str(client.settings.get(h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS, "any"))


def cancelled(target: Target) -> str:
    """Tell whether the application hears that a client cancels a quiet stream."""
    name = new_name()
    with http2_client(target.port, tls=trusting()) as client:
        number = client.request(f"/stream?name={name}")
        client.wait_for_body(number, 1)
        client.cancel(number)
        heard = becomes(lambda: target.tell(name)["left"] is not None)
    return "at once" if heard else "not"


def closed(target: Target) -> str:
    """Tell whether the application hears that a client closes the connection of a quiet stream."""
    name = new_name()
    with http2_client(target.port, tls=trusting()) as client:
        client.wait_for_body(client.request(f"/stream?name={name}"), 1)
    return "at once" if becomes(lambda: target.tell(name)["left"] is not None) else "not"


def broken(target: Target) -> str:
    """Tell what a client sees of an application that raises in the middle of a stream."""
    name = new_name()
    with http2_client(target.port, tls=trusting()) as client:
        number = client.request(f"/broken?name={name}")
        client.wait_for_body(number, 1)
        began = time.monotonic()
        target.tell(name, releases=True)
        end = ended(client, client.streams[number])
    return end if time.monotonic() - began < 3 else f"{end}, after seconds"


def ended(client: Http2Client, stream: Stream) -> str:
    """Tell how a stream ends, if it does."""
    try:
        client.wait_for(lambda: stream.ended or stream.reset is not None, 15)
    except TimeoutError:
        return "nothing"
    except ConnectionError:
        return "the connection's end"
    return "a clean end" if stream.ended else "reset"


def slow(target: Target) -> str:
    """Tell how much the application can send to a client that reads nothing."""
    name = new_name()
    with http2_client(target.port, tls=trusting(), reads=False) as client:
        client.wait_for_body(client.request(f"/flood?name={name}"), 1)
        before = -1
        # Not for ever: what takes all of it takes it within seconds.
        for _ in range(60):
            written = target.tell(name)["written"]
            if written in {before, 4096}:
                break
            before = written
            time.sleep(0.5)
    if written == 4096:
        return "never"
    kilobytes = written * BLOCK / 1000
    return "less than 1 MB" if kilobytes < 1000 else "some MB"


def connect(target: Target) -> str:
    """Tell whether a WebSocket can be opened by an extended CONNECT."""
    with http2_client(target.port, tls=trusting()) as client:
        client.wait(client.request("/seen"))
        if not client.settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL):
            return "not offered"
        number = client.connect("/ws", named("socket"))
        stream = client.streams[number]
        client.wait_for(lambda: stream.headers is not None or stream.reset is not None)
        if stream.status != 200:
            return f"{stream.status}"
        stamped = stream.all(FIELD) == ["socket"]
        return "yes, stamped" if stamped else "yes, no id"


def hints(target: Target) -> str:
    """Tell whether early hints arrive."""
    stream = get(target, "/hints", named("hinted"))
    assert stream.all(FIELD) == ["hinted"]
    if not stream.hints:
        return "not offered"
    return "yes" if all(FIELD not in dict(hint) for hint in stream.hints) else "yes, with an id"


def pushed(target: Target) -> str:
    """Tell whether a page is pushed, and whether it is in the session of its request."""
    with http2_client(target.port, tls=trusting()) as client:
        number = client.request("/push", named("pushing"))
        client.wait(number)
        others = client.streams.keys() - {number}
        if not others:
            return "not offered"
        page = client.wait(others.pop())
        own = json.loads(page.body)["id"] == "pushing" and page.all(FIELD) == ["pushing"]
        return "in its request's session" if own else "in another session"


def cookies(target: Target) -> str:
    """Tell in how many fields two cookies come that a client splits."""
    stream = get(target, "/cookies", [("cookie", "a=1"), ("cookie", "b=2")])
    return {2: "two fields", 1: "one"}[len(json.loads(stream.body))]


ROWS: list[tuple[str, Callable[[Target], str]]] = [
    ("HTTP version in the application", version),
    ("ids on a page, a 500 and a 400", ids),
    ("two ids", twice),
    ("a header field of 20 kB", large),
    ("streams a connection", streams),
    ("two cookies in two fields come in", cookies),
    ("a client that cancels a quiet stream is noticed", cancelled),
    ("a client that closes its connection is noticed", closed),
    ("an application that raises in the middle of a stream", broken),
    ("a client that reads nothing: the application waits after", slow),
    ("a WebSocket by an extended CONNECT", connect),
    ("early hints", hints),
    ("a push", pushed),
]
