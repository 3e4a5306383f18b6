"""What a client may ask for beside its id: whose history counts, a repetition, a key."""

import json
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from hermes_session_mw import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    SESSION_KEY_HEADER,
    TURN_HEADER,
    ConfigurationError,
    HermesSession,
    HermesSessionMiddleware,
    MemoryStore,
    StoreUnavailable,
    is_session_id,
)
from hermes_session_mw.asgi.request_headers import _idempotency_key
from hermes_session_mw.testing.helpers import numbered
from tests.session.test_editing import Plain
from tests.support.asgi import HEADER, Recorder, http_scope, request, stamp

SOURCE, IDEMPOTENCY, KEY, TURN = (
    name.lower().encode()
    for name in (HISTORY_SOURCE_HEADER, IDEMPOTENCY_HEADER, SESSION_KEY_HEADER, TURN_HEADER)
)


def whoever_says_so(connection: HTTPConnection) -> str | None:
    """Take a header's word for who it is, as only a test may."""
    return connection.headers.get("x-user")


def scoped(app: Any, store: MemoryStore | None = None) -> HermesSessionMiddleware:
    return HermesSessionMiddleware(app, store or MemoryStore(), owner=whoever_says_so)


def echoes(log: list[Any]) -> list[bytes]:
    """Return every session key on the log's response start."""
    return [value for name, value in log[0]["headers"] if name == KEY]


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


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_key_has_a_quoted_form(key: str) -> None:
    """A key that is quoted by the rules of RFC 9651 is the key again, whatever it holds."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert _idempotency_key([f'"{escaped}"'.encode()]) == key


@given(st.binary(max_size=20))
def test_no_bytes_are_half_a_key(value: bytes) -> None:
    """A key is printable whatever a client sends, or there is none."""
    key = _idempotency_key([b'"' + value])
    assert key is None or (key.isascii() and key.isprintable() and 0 < len(key) <= len(value))


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


# What Open WebUI 0.12.4 puts into {{TASK}}: nothing in a turn, else one of these.
TASKS = [
    "title_generation", "follow_up_generation", "tags_generation", "emoji_generation",
    "query_generation", "image_prompt_generation", "autocomplete_generation", "function_calling",
    "moa_response_generation", "context_compaction", "memory_review",
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "is_turn"),
    [
        ([], True),
        ([b""], True),
        ([b" \t"], True),
        ([b"none"], False),
        ([b" none "], False),
        *(([task.encode()], False) for task in TASKS),
    ],
)
async def test_a_client_says_that_a_request_is_no_turn(values: list[bytes], is_turn: bool) -> None:
    """By "none" or by a task's name; absent and blank are a turn."""
    app = Recorder()
    scope = http_scope([(HEADER, b"id"), *((TURN, value) for value in values)])
    await request(HermesSessionMiddleware(app, MemoryStore()), scope=scope)
    assert app.session.is_turn == is_turn


@pytest.mark.parametrize(
    "values",
    [
        [b"None"], [b"true"], [b"false"], [b"turn"], [b"1"], [b"{{TASK}}"], [b"title generation"],
        [b"title_"], [b"_generation"], [b"title-generation"], [b"none, none"], [b"none", b"none"],
        [b"\xff"], [b"a_" * 40000],
    ],
)  # fmt: skip
async def test_a_turn_that_is_neither_is_refused(values: list[bytes]) -> None:
    """What may mean either is a 400: neither a turn nor a task may be mistaken for the other."""
    app = Recorder()
    scope = http_scope([(HEADER, b"id"), *((TURN, value) for value in values)])
    log = await request(HermesSessionMiddleware(app, MemoryStore()), scope=scope)
    assert (log[0]["status"], app.sessions, stamp(log)) == (400, [], "id")
    error = json.loads(log[1]["body"])["error"]
    assert (error["param"], error["code"]) == (TURN_HEADER, "invalid_turn")


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


async def test_a_key_that_was_used_is_echoed() -> None:
    """A client reads that its key chose the session, and not where an id did, or nobody's owner."""
    for headers, user, expected in [
        ([(KEY, b"room")], b"ada", [b"room"]),
        ([(HEADER, b"id"), (KEY, b"room")], b"ada", []),
        ([(HEADER, b"id"), (KEY, b"\xff")], b"ada", []),
        ([(KEY, b"\xff")], b"ada", []),
    ]:
        log = await request(keyed(Recorder(), MemoryStore()), scope=sent(*headers, user=user))
        assert echoes(log) == expected


SCOPES: list[tuple[bytes, str]] = [
    (b"agent:main:webui:dm:user-42", "agent:main:webui:dm:user-42"),
    (b" a\tb ", "a\tb"),
    ("Z\xfcrich \u4e2d".encode(), "Z\xfcrich \u4e2d"),
    (b"../../etc, passwd", "../../etc, passwd"),
    ("\u4e2d".encode() * 256, "\u4e2d" * 256),
]


@pytest.mark.parametrize(("value", "scope"), SCOPES)
async def test_a_key_is_a_memory_scope(value: bytes, scope: str) -> None:
    """By default a key is what it is for Hermes Agent: the session has it, and it is echoed."""
    app = Recorder()
    log = await request(scoped(app), scope=sent((KEY, value)))
    assert (app.session.memory_scope, app.session.key) == (scope, None)
    assert echoes(log) == [value.strip(b" \t")]


async def test_two_chats_of_one_scope_stay_two() -> None:
    """A memory scope chooses no conversation, beside an id or without one."""
    store, app = MemoryStore(), Recorder(lambda session: session.append(*numbered(0)))
    ids = {stamp(await request(scoped(app, store), scope=sent((KEY, b"u")))) for _ in range(2)}
    named = sent((KEY, b"u"), (HEADER, b"mine"))
    assert len(ids) == 2
    assert stamp(await request(scoped(app, store), scope=named)) == "mine"
    assert {session.memory_scope for session in app.sessions} == {"u"}
    assert await store.find_key("u", "ada") is None


async def test_no_key_is_no_scope() -> None:
    """A blank key is none, and none is echoed."""
    for headers in ([], [(KEY, b" \t")]):
        app = Recorder()
        log = await request(HermesSessionMiddleware(app, MemoryStore()), scope=http_scope(headers))
        assert (app.session.memory_scope, echoes(log)) == (None, [])


@pytest.mark.parametrize(
    "values",
    [
        [b"x" * 257],
        [b"a", b"a"],
        [b"a\rb"],
        [b"a\nb"],
        [b"a\0b"],
        [b"\x7f"],
        [b"\xe9"],
        [b"\x1b[1m"],
    ],
)
async def test_a_scope_that_is_none_is_refused(values: list[bytes]) -> None:
    """What Hermes Agent refuses is a 400, and so is what no response can carry or two may mean."""
    app = Recorder()
    log = await request(scoped(app), scope=sent(*((KEY, value) for value in values)))
    assert (log[0]["status"], app.sessions, echoes(log)) == (400, [], [])
    error = json.loads(log[1]["body"])["error"]
    assert (error["code"], error["param"]) == ("invalid_session_key", SESSION_KEY_HEADER)


@pytest.mark.parametrize("with_id", [True, False])
async def test_a_scope_needs_an_owner(*, with_id: bool) -> None:
    """Where owners are not told apart it is a 403, as in Hermes Agent; who is nobody gets a 401."""
    headers = [(KEY, b"u"), *([(HEADER, b"mine")] if with_id else [])]
    for wrapped, status in [
        (HermesSessionMiddleware(Recorder(), MemoryStore()), 403),
        (scoped(Recorder()), 401),
    ]:
        log = await request(wrapped, scope=sent(*headers, user=None))
        assert log[0]["status"] == status
        assert json.loads(log[1]["body"])["error"]["code"] == "owner_required"
        assert wrapped.app.sessions == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("headers", "echoed", "vary"),
    [
        ([], [b"u"], b"X-Hermes-Session-Id, X-Hermes-Session-Key"),
        (
            [(b"x-hermes-session-key", b"other")],
            [b"u"],
            b"X-Hermes-Session-Id, X-Hermes-Session-Key",
        ),
        ([(b"vary", b"*")], [b"u"], b"*"),
        ([(b"cache-control", b"public, max-age=60")], [], None),
    ],
)
async def test_an_echoed_key_is_for_its_client_alone(
    headers: list[tuple[bytes, bytes]], echoed: list[bytes], vary: bytes | None
) -> None:
    """The response is private and varies by the key; one for shared caches has no key."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    log = await request(scoped(app), scope=sent((KEY, b"u")))
    fields = dict(log[0]["headers"])
    assert (echoes(log), fields.get(b"vary")) == (echoed, vary)
    assert fields[b"cache-control"] == (b"private" if echoed else b"public, max-age=60")


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
