"""What a client may ask for beside its id: whose history counts, a repetition, a key."""

import json
from typing import Any

import anyio
import pytest
from starlette.requests import HTTPConnection

from hermes_session_mw import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    SESSION_KEY_HEADER,
    ConfigurationError,
    HermesSession,
    HermesSessionMiddleware,
    MemoryStore,
    StoreUnavailable,
    is_session_id,
)
from hermes_session_mw.testing.helpers import numbered
from tests.session.test_editing import Plain
from tests.support.asgi import HEADER, Recorder, http_scope, request, stamp

SOURCE, IDEMPOTENCY, KEY = (
    name.lower().encode()
    for name in (HISTORY_SOURCE_HEADER, IDEMPOTENCY_HEADER, SESSION_KEY_HEADER)
)


def whoever_says_so(connection: HTTPConnection) -> str | None:
    """Take a header's word for who it is, as only a test may."""
    return connection.headers.get("x-user")


def keyed(app: Any, store: MemoryStore, **options: Any) -> HermesSessionMiddleware:
    return HermesSessionMiddleware(app, store, owner=whoever_says_so, session_keys=True, **options)


def sent(*headers: tuple[bytes, bytes], user: bytes | None = b"ada") -> Any:
    return http_scope([*headers, *([(b"x-user", user)] if user else [])])


@pytest.mark.parametrize(
    ("values", "source"),
    [([], "session"), ([b""], "session"), ([b"session"], "session"), ([b" request\t"], "request")],
)
async def test_a_client_says_whose_history_counts(values: list[bytes], source: str) -> None:
    """The session says what the client said, and "session" where it said nothing."""
    app = Recorder()
    scope = http_scope([(HEADER, b"id"), *((SOURCE, value) for value in values)])
    await request(HermesSessionMiddleware(app, MemoryStore()), scope=scope)
    assert source == app.session.history_source


HOSTILE = [
    b"Request",
    b"requests",
    b"body",
    b"request, session",
    b"\xff",
    b"session\0",
    b"x" * 70000,
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value[:12]))
@pytest.mark.parametrize("with_id", [True, False])
async def test_an_unknown_source_is_refused(value: bytes, *, with_id: bool) -> None:
    """Any other value is a 400 that names the field, repeats nothing, and keeps the client's id."""
    app = Recorder()
    headers = [(SOURCE, value), *([(HEADER, b"mine")] if with_id else [])]
    log = await request(HermesSessionMiddleware(app, MemoryStore()), scope=http_scope(headers))
    assert (log[0]["status"], app.sessions) == (400, [])
    assert (stamp(log) == "mine") == with_id
    error = json.loads(log[1]["body"])["error"]
    assert (error["param"], error["code"]) == (HISTORY_SOURCE_HEADER, "invalid_history_source")
    assert value.decode("latin-1") not in error["message"]


async def test_two_sources_are_refused() -> None:
    """A field that is sent twice says nothing, even where it says the same."""
    headers = [(SOURCE, b"session"), (SOURCE, b"session")]
    log = await request(
        HermesSessionMiddleware(Recorder(), MemoryStore()), scope=http_scope(headers)
    )
    assert log[0]["status"] == 400


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        ([b"\t"], None),
        ([b"k"], "k"),
        ([b"~" * 255], "~" * 255),
        ([b'k"'], 'k"'),
        ([rb"a\b\""], r"a\b\""),
        ([b'"k"'], "k"),
        ([b' "8e03978e-40d5" '], "8e03978e-40d5"),
        ([b'" a, b "'], " a, b "),
        ([rb'"a\"b\\c"'], r'a"b\c'),
        ([b'"' + rb"\"" * 255 + b'"'], '"' * 255),
    ],
)
async def test_an_idempotency_key_is_what_a_quoted_string_holds(
    values: list[bytes], key: str | None
) -> None:
    """A bare key is taken as it is, and a quoted string is the key that it holds."""
    app = Recorder()
    scope = http_scope([(IDEMPOTENCY, value) for value in values])
    await request(HermesSessionMiddleware(app, MemoryStore()), scope=scope)
    assert key == app.session.idempotency_key


@pytest.mark.parametrize(
    "value",
    [
        b'"',
        b'""',
        b'"k',
        b'"k"x',
        b'"k";a=1',
        b'"a"b"',
        rb'"k\"',
        rb'"a\b"',
        b'"' + b"x" * 256 + b'"',
    ],
)
async def test_a_malformed_quoted_string_is_refused(value: bytes) -> None:
    """What begins with a quote and is no string of RFC 9651 is a 400, and not a bare key."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(app, MemoryStore())
    log = await request(wrapped, scope=http_scope([(IDEMPOTENCY, value)]))
    assert (log[0]["status"], app.sessions) == (400, [])
    assert json.loads(log[1]["body"])["error"]["code"] == "invalid_idempotency_key"


@pytest.mark.parametrize("values", [[b"x" * 256], [b"a", b"b"], [b"\xc3\xa4"], [b"a\0"], [b"a\nb"]])
@pytest.mark.parametrize(
    ("field", "code"), [(IDEMPOTENCY, "invalid_idempotency_key"), (KEY, "invalid_session_key")]
)
async def test_a_key_that_cannot_be_kept_is_refused(
    field: bytes, code: str, values: list[bytes]
) -> None:
    """A key that is too long, doubled, or not printable is a 400."""
    app = Recorder()
    scope = sent(*((field, value) for value in values))
    log = await request(keyed(app, MemoryStore()), scope=scope)
    assert (log[0]["status"], app.sessions) == (400, [])
    assert json.loads(log[1]["body"])["error"]["code"] == code
    assert is_session_id(stamp(log))


async def test_an_invalid_id_is_refused_first() -> None:
    """Where several fields are wrong, the id is what the client is told of."""
    log = await request(
        HermesSessionMiddleware(Recorder(), MemoryStore()),
        scope=http_scope([(HEADER, b"a b"), (SOURCE, b"no")]),
    )
    assert json.loads(log[1]["body"])["error"]["code"] == "invalid_session_id"


async def test_a_key_leads_to_its_session() -> None:
    """Whoever sends a key has its conversation, from the first request on."""
    store, app = MemoryStore(), Recorder(lambda session: session.append(*numbered(session.length)))
    ids = {
        stamp(await request(keyed(app, store), scope=sent((KEY, b"telegram:42")))) for _ in range(3)
    }
    assert len(ids) == 1
    assert (await store.load(ids.pop(), "ada")).messages == numbered(0, 3)
    assert [session.is_new for session in app.sessions] == [True, False, False]


@pytest.mark.parametrize("policy", ["adopt", "mint", "reject"])
async def test_first_requests_at_once_share_a_session(policy: Any) -> None:
    """Requests with a key that nobody has sent before agree on its session."""
    store, app = MemoryStore(), Recorder()
    ids: set[str] = set()

    async def one() -> None:
        log = await request(keyed(app, store, unknown_ids=policy), scope=sent((KEY, b"room")))
        ids.add(stamp(log))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
    assert len(ids) == 1
    assert len(app.sessions) == 8


async def test_a_new_conversation_moves_the_key() -> None:
    """After renew() the key leads to the new conversation, and the client's code stays the same."""
    store = MemoryStore()
    old = stamp(
        await request(
            keyed(Recorder(lambda session: session.append(*numbered(0))), store),
            scope=sent((KEY, b"room")),
        )
    )
    new = stamp(
        await request(keyed(Recorder(HermesSession.renew), store), scope=sent((KEY, b"room")))
    )
    app = Recorder()
    assert new != old
    assert stamp(await request(keyed(app, store), scope=sent((KEY, b"room")))) == new
    assert (app.session.history, app.session.key) == ([], "room")
    assert (await store.load(old, "ada")).length == 1


async def test_a_deleted_conversations_key_begins_anew() -> None:
    """A key whose conversation was deleted leads to a new one."""
    store, app = MemoryStore(), Recorder(lambda session: session.append(*numbered(0)))
    old = stamp(await request(keyed(app, store), scope=sent((KEY, b"room"))))
    assert await store.delete(old, "ada")
    assert stamp(await request(keyed(app, store), scope=sent((KEY, b"room")))) != old


async def test_a_key_is_its_owners() -> None:
    """The same key of another owner is another conversation; without an owner it is a 401."""
    store, app = MemoryStore(), Recorder()
    ids = [
        stamp(await request(keyed(app, store), scope=sent((KEY, b"room"), user=user)))
        for user in (b"ada", b"bob")
    ]
    assert len(set(ids)) == 2
    log = await request(keyed(app, store), scope=sent((KEY, b"room"), user=None))
    assert (log[0]["status"], len(app.sessions)) == (401, 2)
    assert stamp(log) not in ids


async def test_the_id_comes_before_the_key() -> None:
    """A request that names its session by an id means that one, whatever its key leads to."""
    store, app = MemoryStore(), Recorder()
    log = await request(keyed(app, store), scope=sent((HEADER, b"id"), (KEY, b"room")))
    assert (stamp(log), app.session.key) == ("id", None)
    assert await store.find_key("room", "ada") is None


async def test_keys_are_not_looked_for_unless_asked() -> None:
    """Without session_keys the field is any other field."""
    app = Recorder()
    await request(HermesSessionMiddleware(app, MemoryStore()), scope=sent((KEY, b"room")))
    assert app.session.key is None
    assert app.session.is_new


def test_keys_need_an_owner() -> None:
    """Keys can be guessed, so that without an owner hook they are a mistake."""
    with pytest.raises(ConfigurationError, match="session_keys"):
        HermesSessionMiddleware(Recorder(), MemoryStore(), session_keys=True)


def test_keys_need_a_store_that_has_them() -> None:
    """A store of three methods cannot keep keys, which is found out at once."""
    with pytest.raises(ConfigurationError, match="a Plain has no keys"):
        HermesSessionMiddleware(Recorder(), Plain(), owner=whoever_says_so, session_keys=True)


async def test_a_key_whose_session_cannot_be_found_is_a_503() -> None:
    """Where the store fails nobody knows the id, so that the request cannot go on without it."""

    class Failing(MemoryStore):
        async def bind_key(self, *_: Any) -> str:
            raise StoreUnavailable("no")

    app = Recorder()
    log = await request(keyed(app, Failing()), scope=sent((KEY, b"room")))
    assert (log[0]["status"], app.sessions) == (503, [])
    assert is_session_id(stamp(log))
