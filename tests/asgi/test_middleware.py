"""The wire: what becomes of each value of the header, by the log of ASGI messages."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import (
    ConfigurationError,
    HermesSession,
    HermesSessionMiddleware,
    History,
    HistoryNotLoaded,
    MemoryStore,
    OwnerRequired,
    StoreError,
    StoreUnavailable,
    is_session_id,
)
from hermes_session_mw.logging import current_session, fingerprint
from tests.support.asgi import HEADER, Recorder, http_scope, request, stamp, stamps, types

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
WHOLE_RESPONSE = ["http.response.start", "http.response.body"]


async def by_header_async(_: Any) -> bool:
    """Never called."""
    raise NotImplementedError


MALFORMED = {
    "traversal": b"../../etc/passwd",
    "dots": b"a..b",
    "slash": b"a/b",
    "drive": b"C:x",
    "too long": b"a" * 257,
    "a megabyte": b"a" * 1_000_000,
    "NUL": b"a\x00b",
    "line feed": b"a\nset-cookie: a=b",
    "obs-fold": b"a\r\n b",
    "UTF-8": "é".encode(),
    "Latin-1": b"\xe9",
    "inner blank": b"a b",
    "list": b"a,b",
    "vertical tab": b"\x0b",
}


class CountingStore(MemoryStore):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[int | None] = []

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        self.loads.append(limit)
        return await super().load(session_id, owner, limit)


class FailingStore(MemoryStore):
    """Fails as it is told to, for as long as it is told to."""

    def __init__(self, failure: Exception | None) -> None:
        super().__init__()
        self.failure = failure

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        if self.failure is not None:
            raise self.failure
        return await super().load(session_id, owner, limit)


class HangingStore(MemoryStore):
    """Never answers."""

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        await anyio.sleep_forever()
        raise AssertionError

    async def append(self, session_id: str, messages: Sequence[Any], *_: Any, **__: Any) -> int:
        await anyio.sleep_forever()
        raise AssertionError


async def filled(store: MemoryStore | None = None, owner: str = "") -> MemoryStore:
    """Return a store in which "known" has a conversation."""
    store = store or MemoryStore()
    await store.append("known", HELLO, owner=owner)
    return store


def refusal(log: list[Message]) -> tuple[int, str]:
    """Check that the log is one stamped refusal; return its status and code."""
    assert types(log) == WHOLE_RESPONSE
    assert is_session_id(stamp(log))
    headers = dict(log[0]["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(log[1]["body"])
    error = json.loads(log[1]["body"])["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == "X-Hermes-Session-Id"
    return log[0]["status"], error["code"]


async def test_a_request_without_the_header_gets_a_new_session() -> None:
    """Without the header an id is minted, and its history is empty."""
    app = Recorder()
    log = await request(HermesSessionMiddleware(app, MemoryStore()))
    assert types(log) == WHOLE_RESPONSE
    assert is_session_id(stamp(log))
    assert (app.session.id, app.session.is_new) == (stamp(log), True)
    assert (app.session.history, app.session.length) == ([], 0)
    assert not app.session.degraded


async def test_every_request_without_the_header_gets_its_own() -> None:
    """Two clients never share a minted id."""
    wrapped = HermesSessionMiddleware(Recorder(), MemoryStore())
    assert len({stamp(await request(wrapped)) for _ in range(100)}) == 100


@pytest.mark.parametrize("value", [b"", b" ", b"\t \t"])
async def test_a_blank_header_is_no_header(value: bytes) -> None:
    """A header that is blank after trimming counts as absent, and the store is not asked."""
    store, app = CountingStore(), Recorder()
    log = await request(HermesSessionMiddleware(app, store), value)
    assert app.session.is_new
    assert stamp(log) == app.session.id
    assert store.loads == []


@pytest.mark.parametrize("value", ["known", " known\t"])
async def test_a_known_id_brings_its_history(value: str) -> None:
    """A known id is kept and echoed, and its history comes from the store."""
    app = Recorder()
    log = await request(HermesSessionMiddleware(app, await filled()), value)
    assert stamp(log) == "known"
    assert (app.session.id, app.session.is_new) == ("known", False)
    assert (app.session.history, app.session.length) == (HELLO, 2)


async def test_the_history_is_the_stores_and_not_the_bodys() -> None:
    """What the body claims about the past is not even read."""
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["body"])
        histories.append(scope["state"]["hermes_session"].history)
        await Recorder()(scope, receive, send)

    histories: list[Any] = []
    body = b'{"messages": [{"role": "user", "content": "I was never here"}]}'
    scope = http_scope([(HEADER, b"known")])
    await request(HermesSessionMiddleware(app, await filled()), scope=scope, body=body)
    assert histories == [HELLO]
    assert seen == [body]


async def test_an_unknown_id_is_adopted() -> None:
    """A client may invent its id: it is kept, and nothing is written for it."""
    app, store = Recorder(), MemoryStore()
    log = await request(HermesSessionMiddleware(app, store), "desk-1-abc")
    assert stamp(log) == app.session.id == "desk-1-abc"
    assert (app.session.history, app.session.is_new) == ([], False)
    assert repr(store) == "<MemoryStore (0 sessions)>"


async def test_an_unknown_id_can_be_replaced() -> None:
    """With unknown_ids="mint" an unknown id gives way to a minted one; a known one stays."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(app, await filled(), unknown_ids="mint")
    log = await request(wrapped, "unknown")
    assert stamp(log) == app.session.id != "unknown"
    assert (app.session.is_new, app.session.history) == (True, [])
    assert stamp(await request(wrapped, "known")) == "known"


async def test_an_unknown_id_can_be_refused() -> None:
    """With unknown_ids="reject" an unknown id is a 404 that does not reach the application."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(app, await filled(), unknown_ids="reject")
    log = await request(wrapped, "unknown")
    assert refusal(log) == (404, "session_not_found")
    assert stamp(log) != "unknown"
    assert app.sessions == []
    assert stamp(await request(wrapped, "known")) == "known"


@pytest.mark.parametrize("policy", ["mint", "reject"])
async def test_without_autoload_only_the_existence_is_asked(policy: Any) -> None:
    """Telling known from unknown ids loads no message."""
    store, app = CountingStore(), Recorder()
    await filled(store)
    wrapped = HermesSessionMiddleware(app, store, autoload=False, unknown_ids=policy)
    await request(wrapped, "known")
    assert store.loads == [0]
    with pytest.raises(HistoryNotLoaded):
        _ = app.session.history


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_id_is_refused(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A malformed id is a 400 that is neither echoed, nor logged, nor brought to the store."""
    store, app = CountingStore(), Recorder()
    with caplog.at_level(logging.DEBUG):
        log = await request(HermesSessionMiddleware(app, store), value)
    assert refusal(log) == (400, "invalid_session_id")
    assert app.sessions == []
    assert store.loads == []
    assert value not in log[1]["body"]
    assert all(value not in content for _, content in log[0]["headers"])
    assert caplog.records == []


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_id_can_be_replaced(value: bytes) -> None:
    """With invalid_ids="mint" a malformed id counts as none."""
    store, app = CountingStore(), Recorder()
    log = await request(HermesSessionMiddleware(app, store, invalid_ids="mint"), value)
    assert log[0]["status"] == 200
    assert stamp(log) == app.session.id
    assert app.session.is_new
    assert store.loads == []


@pytest.mark.parametrize("second", [b"known", b"other", b"a b"])
async def test_two_values_are_malformed(second: bytes) -> None:
    """More than one value is nobody's id, even where both are the same."""
    scope = http_scope([(HEADER, b"known"), (b"X-Hermes-Session-Id", second)])
    log = await request(HermesSessionMiddleware(Recorder(), await filled()), scope=scope)
    assert refusal(log) == (400, "invalid_session_id")


async def test_a_failing_store_leaves_the_history_empty(caplog: pytest.LogCaptureFixture) -> None:
    """A store that fails costs the history, not the request, and one warning says so."""
    app = Recorder()
    store = FailingStore(StoreUnavailable("the disk is on fire"))
    log = await request(HermesSessionMiddleware(app, store), "secret-id")
    assert log[0]["status"] == 200
    assert stamp(log) == "secret-id"
    assert (app.session.history, app.session.degraded) == ([], True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the disk is on fire" in record.getMessage()
    assert fingerprint("secret-id") in record.getMessage()
    assert "secret-id" not in caplog.text


async def test_any_exception_of_a_store_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A store of somebody else's may raise anything; its text, which may hold ids, stays out."""
    app = Recorder()
    store = FailingStore(RuntimeError("no such row: secret-id"))
    log = await request(HermesSessionMiddleware(app, store), "secret-id")
    assert log[0]["status"] == 200
    assert app.session.degraded
    assert "RuntimeError" in caplog.text
    assert "secret-id" not in caplog.text


@pytest.mark.parametrize("failure", [StoreError("x"), RuntimeError("x"), TimeoutError("x")])
async def test_a_failing_store_can_be_a_503(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """With on_store_error="unavailable" the client is told to come back, under a valid id."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(app, FailingStore(failure), on_store_error="unavailable")
    log = await request(wrapped, "known")
    assert refusal(log) == (503, "session_store_unavailable")
    assert stamp(log) == "known"  # a client that adopts what it is given keeps its thread
    assert dict(log[0]["headers"])[b"retry-after"] == b"1"
    assert app.sessions == []
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("policy", "status"), [("empty", 200), ("unavailable", 503)])
async def test_a_hung_store_never_hangs_a_request(policy: Any, status: int) -> None:
    """A store that never answers is a failed one after store_timeout."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(
        app, HangingStore(), on_store_error=policy, store_timeout=0.05
    )
    with anyio.fail_after(60):
        log = await request(wrapped, "known")
    assert log[0]["status"] == status
    assert all(session.degraded for session in app.sessions)


@pytest.mark.parametrize("unknown_ids", ["mint", "reject"])
async def test_where_nobody_knows_an_id_is_kept(unknown_ids: Any) -> None:
    """A failing store cannot tell that an id is unknown, so the client does not lose its thread."""
    app = Recorder()
    store = FailingStore(StoreUnavailable("x"))
    log = await request(HermesSessionMiddleware(app, store, unknown_ids=unknown_ids), "known")
    assert stamp(log) == "known"
    assert app.session.degraded


async def test_a_store_that_heals_is_used_again() -> None:
    """The next request after a failure is a usual one."""
    store, app = FailingStore(StoreUnavailable("x")), Recorder()
    await filled(store)
    wrapped = HermesSessionMiddleware(app, store)
    await request(wrapped, "known")
    store.failure = None
    await request(wrapped, "known")
    assert [session.degraded for session in app.sessions] == [True, False]
    assert app.session.history == HELLO


async def test_autoload_can_be_left_to_the_application() -> None:
    """With autoload off nothing is read until load() is awaited."""
    store = CountingStore()
    await filled(store)

    async def work(session: HermesSession) -> None:
        with pytest.raises(HistoryNotLoaded, match="load"):
            _ = session.history
        with pytest.raises(HistoryNotLoaded):
            _ = session.length
        assert store.loads == []
        assert await session.load() == HELLO
        assert session.history == HELLO

    app = Recorder(work)
    await request(HermesSessionMiddleware(app, store, autoload=False), "known")
    assert len(app.sessions) == 1


async def test_autoload_can_depend_on_the_scope() -> None:
    """A predicate chooses the requests that need the history."""
    store = CountingStore()
    wrapped = HermesSessionMiddleware(
        Recorder(), store, autoload=lambda scope: scope["path"] == "/chat"
    )
    for path in ("/", "/chat", "/healthz"):
        await request(wrapped, scope=http_scope([(HEADER, b"known")], path=path))
    assert len(store.loads) == 1


async def test_history_limit_loads_the_newest() -> None:
    """With history_limit only the newest messages are loaded; the length is the whole one."""
    app = Recorder()
    await request(HermesSessionMiddleware(app, await filled(), history_limit=1), "known")
    assert (app.session.history, app.session.length) == (HELLO[1:], 2)


async def test_the_header_can_have_another_name() -> None:
    """A custom header is read and stamped instead, in any case, and named in refusals."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(app, await filled(), header_name="X-Thread")
    log = await request(wrapped, scope=http_scope([(b"x-thread", b"known"), (HEADER, b"a b")]))
    assert (b"x-thread", b"known") in log[0]["headers"]
    assert HEADER not in dict(log[0]["headers"])
    log = await request(wrapped, scope=http_scope([(b"X-THREAD", b"a b")]))
    assert json.loads(log[1]["body"])["error"]["param"] == "X-Thread"


THEIRS = ("X-Hermes-Session-Id", "x-litellm-session-id", "session-id")


@pytest.mark.parametrize(
    ("given", "session_id"),
    [
        ({"x-litellm-session-id": "a"}, "a"),
        ({"session-id": "a"}, "a"),
        ({"SESSION-ID": "c", "X-LiteLLM-Session-Id": "b"}, "b"),
        ({"session-id": "c", "x-litellm-session-id": "b", "x-hermes-session-id": "a"}, "a"),
        ({"session-id": "c", "x-litellm-session-id": " ", "x-hermes-session-id": ""}, "c"),
        ({"session-id": "not an id", "x-litellm-session-id": "b"}, "b"),
    ],
)
async def test_the_first_name_that_is_present_counts(
    given: dict[str, str], session_id: str
) -> None:
    """Of several names the first in the list names the session, and the others are ignored."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(app, MemoryStore(), header_name=THEIRS)
    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    log = await request(wrapped, scope=http_scope(headers))
    assert (app.session.id, stamp(log)) == (session_id, session_id)
    sent = dict(log[0]["headers"])
    assert b"session-id" not in sent
    assert sent[b"vary"] == b"X-Hermes-Session-Id, x-litellm-session-id, session-id"


async def test_a_new_id_is_told_under_the_first_name() -> None:
    """A client without an id reads it where every response has it; and pages may read it there."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"access-control-allow-origin", b"*"), (b"vary", b"Origin")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    log = await request(HermesSessionMiddleware(app, MemoryStore(), header_name=list(THEIRS)))
    sent = dict(log[0]["headers"])
    assert is_session_id(stamp(log))
    assert sent[b"access-control-expose-headers"] == b"X-Hermes-Session-Id"
    assert sent[b"vary"] == b"Origin, X-Hermes-Session-Id, x-litellm-session-id, session-id"


@pytest.mark.parametrize("values", [[b"a b"], [b"a", b"a"]])
async def test_an_invalid_id_is_refused_by_the_name_it_came_under(values: list[bytes]) -> None:
    """The first header that is present decides, also where its value is no id."""
    wrapped = HermesSessionMiddleware(Recorder(), MemoryStore(), header_name=THEIRS)
    headers = [(b"session-id", b"good"), *((b"x-litellm-session-id", value) for value in values)]
    log = await request(wrapped, scope=http_scope(headers))
    assert status_of(log) == 400
    assert json.loads(log[1]["body"])["error"]["param"] == "x-litellm-session-id"


def status_of(log: list[Message]) -> int:
    """Return the log's status."""
    status: int = log[0]["status"]
    return status


async def test_ids_can_have_another_grammar() -> None:
    """Custom new_id and valid_id decide, within what a header can carry."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(
        app,
        MemoryStore(),
        new_id=lambda: "s_1",
        valid_id=lambda value: value.startswith("s_") or not value.isascii(),
    )
    assert stamp(await request(wrapped)) == "s_1"
    assert stamp(await request(wrapped, "s_/../x")) == "s_/../x"
    for refused in (b"known", b"s_\n", b"s_\xe9", b"s_" * 200):
        assert status_of(await request(wrapped, refused)) == 400


async def test_a_new_id_that_is_not_valid_is_a_loud_mistake() -> None:
    """An id that its own client could not send back is never handed out."""
    for made in ("", "a b", "a..b", "\xe9"):
        wrapped = HermesSessionMiddleware(Recorder(), MemoryStore(), new_id=[made].pop)
        with pytest.raises(ConfigurationError, match="new_id"):
            await request(wrapped)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"unknown_ids": "ignore"}, "unknown_ids: 'ignore' is none of 'adopt', 'mint', 'reject'"),
        ({"invalid_ids": "adopt"}, "invalid_ids"),
        ({"on_store_error": "raise"}, "on_store_error"),
        ({"history_limit": 0}, "history_limit"),
        ({"history_limit": -1}, "history_limit"),
        ({"store_timeout": 0}, "store_timeout"),
        ({"store_timeout": float("nan")}, "store_timeout"),
        ({"header_name": "a b"}, "header_name"),
        ({"header_name": "Authorization"}, "header_name: 'Authorization' has another meaning"),
        ({"header_name": 7}, "header_name"),
        ({"store": 7}, "store: 7 is neither a URL"),
        ({"store": MemoryStore}, "neither a URL, nor an engine, nor a Store"),
        ({"store": "sqlite://sessions.db"}, r"not a database URL .*sqlite:///sessions\.db"),
        ({"store": "postgres://x"}, r"not a database URL .*postgresql\+psycopg://"),
        ({"store": "postgresql+psycopg://x:port/y"}, "not a database URL"),
        ({"owner": "ada"}, "owner: 'ada' is not a function"),
        ({"new_id": "abc"}, "new_id"),
        ({"valid_id": None}, "valid_id"),
        ({"autoload": "yes"}, "autoload"),
        ({"autoload": by_header_async}, "autoload: an async function"),
        ({"history_limit": "5"}, "history_limit"),
        ({"history_limit": 2.5}, "history_limit: 2.5"),
        ({"history_limit": True}, "history_limit: True"),
        ({"history_limit": float("inf")}, "history_limit: inf"),
        ({"store_timeout": 1e300}, "store_timeout: 1e.300"),
        ({"store_timeout": 10**400}, "store_timeout: 10"),
        ({"store_timeout": True}, "store_timeout: True"),
        ({"session_keys": "false", "owner": lambda _: "ada"}, "session_keys: 'false'"),
        ({"exclude": None}, "exclude: give a list"),
        ({"exclude": b"/health"}, "exclude: give a list"),
        ({"exclude": [b"/health"]}, "exclude: b'/health' does not begin"),
        ({"exclude": [None]}, "exclude: None does not begin"),
        ({"store": "not a url"}, "store: not a database URL"),
        (
            {"store": "oracle://"},
            "store: oracle is not supported; these are: mariadb, mysql, postgresql",
        ),
        ({"store": "nosuch://"}, "store: not a database URL"),
        ({"store": "mysql+mysqldb://"}, r"mysqldb is not .*mysql\+pymysql://"),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(
    options: dict[str, Any], problem: str
) -> None:
    """A mistake in the set-up shows when the middleware is made, not at some request."""
    with pytest.raises(ConfigurationError, match=problem):
        HermesSessionMiddleware(Recorder(), **options)


@pytest.mark.parametrize("app", [None, 5, Recorder])
def test_what_is_no_application_is_refused_at_once(app: Any) -> None:
    """A class in the place of its instance is a mistake that shows when the middleware is made."""
    with pytest.raises(ConfigurationError, match="not an ASGI application"):
        HermesSessionMiddleware(app, MemoryStore())


async def test_the_excluded_paths_may_come_from_an_iterator() -> None:
    """What can be iterated over once is read once."""
    paths: Any = iter(["/health"])
    wrapped = HermesSessionMiddleware(Starlette(), MemoryStore(), exclude=paths)
    assert stamps(await request(wrapped, scope=http_scope(path="/health"))) == []


async def test_the_session_is_on_the_servers_own_state() -> None:
    """The session is added to the request's state, and nothing else of the scope is changed."""
    app = Recorder()
    state = {"pool": object()}
    scope = http_scope(state=state)
    before = {**scope, "headers": list(scope["headers"])}
    await request(HermesSessionMiddleware(app, MemoryStore()), scope=scope)
    assert scope["state"] is state
    assert state.pop("hermes_session") is app.session
    assert before == scope


async def test_a_scope_without_state_gets_one() -> None:
    """A server that offers no state is served all the same, and its scope stays as it is."""
    app = Recorder()
    scope = http_scope()
    del scope["state"]
    await request(HermesSessionMiddleware(app, MemoryStore()), scope=scope)
    assert len(app.sessions) == 1
    assert "state" not in scope


async def test_request_headers_may_be_any_iterable() -> None:
    """One-shot headers are read once and still reach the application, as may none at all."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append([tuple(pair) for pair in scope["headers"]])
        await Recorder()(scope, receive, send)

    wrapped = HermesSessionMiddleware(app, MemoryStore())
    pairs = [(b"host", b"x"), (HEADER, b"known")]
    scope = http_scope()
    scope["headers"] = (pair for pair in pairs)
    assert stamp(await request(wrapped, scope=scope)) == "known"
    scope = http_scope()
    del scope["headers"]
    assert is_session_id(stamp(await request(wrapped, scope=scope)))
    assert seen == [pairs, []]


async def test_the_current_session_is_set_while_the_application_runs() -> None:
    """Logging finds the session during the request, and nothing after it."""
    seen: list[Any] = []

    async def work(_: HermesSession) -> None:
        seen.append(current_session.get())

    app = Recorder(work)
    await request(HermesSessionMiddleware(app, MemoryStore()), "known")
    assert seen == [app.session]
    assert current_session.get() is None


async def test_the_current_session_is_reset_when_the_application_raises() -> None:
    """An exception passes through unchanged, and leaves nothing behind."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await request(HermesSessionMiddleware(app, MemoryStore()))
    assert current_session.get() is None


async def test_other_scopes_pass_untouched() -> None:
    """A scope type that is not ours reaches the application as the very same object."""
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)

    async def nothing(*_: Any) -> Any: ...

    scope = {"type": "mystery"}
    await HermesSessionMiddleware(app, MemoryStore())(scope, nothing, nothing)
    assert [scope, nothing, nothing] == seen
    assert scope == {"type": "mystery"}


async def by_header(connection: HTTPConnection) -> str | None:
    """Name the owner by a header, as behind a proxy that authenticates."""
    return connection.headers.get("x-user")


def by_header_sync(connection: HTTPConnection) -> str | None:
    """Do the same without waiting."""
    return connection.headers.get("x-user")


@pytest.mark.parametrize("hook", [by_header, by_header_sync])
async def test_a_session_belongs_to_its_owner(hook: Any) -> None:
    """The owner's sessions are the owner's, whether the hook is sync or async."""
    app = Recorder()
    wrapped = HermesSessionMiddleware(app, await filled(owner="ada"), owner=hook)
    await request(wrapped, scope=http_scope([(HEADER, b"known"), (b"x-user", b"ada")]))
    assert (app.session.owner, app.session.history) == ("ada", HELLO)


@pytest.mark.parametrize("unknown_ids", ["adopt", "reject"])
async def test_another_owners_id_answers_like_an_unknown_one(unknown_ids: Any) -> None:
    """Nobody can tell a foreign id from one that was never given out."""
    app, store = Recorder(), CountingStore()
    await filled(store, owner="ada")
    wrapped = HermesSessionMiddleware(
        app, store, owner=by_header, unknown_ids=unknown_ids, new_id=lambda: "minted"
    )
    foreign = await request(wrapped, scope=http_scope([(HEADER, b"known"), (b"x-user", b"bob")]))
    unknown = await request(wrapped, scope=http_scope([(HEADER, b"knows"), (b"x-user", b"bob")]))
    same = json.dumps(foreign, default=repr).replace("known", "knows")
    assert same == json.dumps(unknown, default=repr)
    assert all(session.history == [] for session in app.sessions)
    assert len(store.loads) == 2


@pytest.mark.parametrize("answer", [None, "", "x" * 256, "a\0b"])
async def test_no_owner_closes(answer: str | None) -> None:
    """Where the hook names nobody, an id is a 401, and without one nothing can be stored."""

    async def work(session: HermesSession) -> None:
        assert session.owner is None
        with pytest.raises(OwnerRequired):
            await session.load()
        with pytest.raises(OwnerRequired, match="owner"):
            await session.append(*HELLO)

    app, store = Recorder(work), CountingStore()
    wrapped = HermesSessionMiddleware(app, store, owner=lambda _: answer)
    log = await request(wrapped, "known")
    assert (refusal(log), stamp(log)) == ((401, "owner_required"), "known")
    assert dict(log[0]["headers"])[b"www-authenticate"] == b"Bearer"
    assert app.sessions == []
    assert status_of(await request(wrapped)) == 200
    assert (app.session.is_new, store.loads) == (True, [])


async def test_concurrent_requests_keep_apart() -> None:
    """Each of many requests at once has its own session, and its own stamp."""
    store = MemoryStore()
    for number in range(20):
        await store.append(f"s{number}", [{"n": number}])
    seen: dict[str, Any] = {}

    async def work(session: HermesSession) -> None:
        await anyio.sleep(0.001)
        seen[session.id] = (session.history, current_session.get())

    wrapped = HermesSessionMiddleware(Recorder(work), store)

    async def one(session_id: str) -> None:
        assert stamps(await request(wrapped, session_id)) == [session_id]

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(one, f"s{number}")
    for number in range(20):
        history, session = seen[f"s{number}"]
        assert history == [{"n": number}]
        assert session.id == f"s{number}"
