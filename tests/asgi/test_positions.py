"""Where the middleware stands, and what it does when the application raises."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hermes_session_mw import (
    SESSION_HEADER,
    ConfigurationError,
    HermesSession,
    HermesSessionMiddleware,
    MemoryStore,
    SessionMissing,
    get_session,
    install,
    is_session_id,
)
from hermes_session_mw.logging import current_session
from tests.support.asgi import HEADER, Recorder, http_scope, lifespan, request, stamp, stamps, types

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"ok"}


async def error(_: Request) -> Response:
    raise LookupError("unhandled")


async def page(request: Request) -> Response:
    return JSONResponse({"app": request.app.__class__.__name__, "id": get_session(request).id})


ROUTES = [Route("/", page), Route("/error", error)]


async def driven(app: ASGIApp, scope: Scope) -> tuple[list[Message], Exception | None]:
    """Send a request, and return the log and what was raised."""
    log: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        log.append(message)

    try:
        await app(scope, receive, send)
    except Exception as exc:  # noqa: BLE001  # what came out is what is asked for
        return log, exc
    return log, None


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_install_keeps_the_application_what_it_is(kind: Any) -> None:
    """The object stays itself, with its type, its routes and its state."""
    app = kind(routes=ROUTES)
    assert install(app, MemoryStore()) is app
    client = TestClient(app)
    response = client.get("/", headers={SESSION_HEADER: "known"})
    assert response.json() == {"app": kind.__name__, "id": "known"}
    assert response.headers.get_list(SESSION_HEADER) == ["known"]
    assert app.url_path_for("page") == "/"


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_a_users_error_handler_runs_once(kind: Any) -> None:
    """The application's own 500 page goes out, stamped, and its handler is called once."""
    calls: list[Exception] = []

    async def own_page(request: Request, exc: Exception) -> Response:
        calls.append(exc)
        assert get_session(request).id == "known"
        return PlainTextResponse("my own page", 500)

    app = install(kind(routes=ROUTES, exception_handlers={Exception: own_page}), MemoryStore())
    client = TestClient(app, raise_server_exceptions=False)
    response = client.get("/error", headers={SESSION_HEADER: "known"})
    assert (response.status_code, response.text) == (500, "my own page")
    assert response.headers.get_list(SESSION_HEADER) == ["known"]
    assert len(calls) == 1


def test_a_debug_traceback_is_kept() -> None:
    """In debug mode the framework's traceback goes out as without the middleware, but stamped."""
    app = install(Starlette(debug=True, routes=ROUTES), MemoryStore())
    client = TestClient(app, raise_server_exceptions=False)
    response = client.get("/error")
    assert response.status_code == 500
    assert "LookupError: unhandled" in response.text
    assert is_session_id(response.headers[SESSION_HEADER])


async def test_an_error_page_that_raises_is_replaced_by_a_plain_one() -> None:
    """Where even the application's 500 handler raises, a stamped plain 500 goes out."""

    async def broken_page(_: Request, _exc: Exception) -> Response:
        raise ZeroDivisionError("in the handler")

    app = install(Starlette(routes=ROUTES, exception_handlers={500: broken_page}), MemoryStore())
    log, raised = await driven(app, http_scope([(HEADER, b"known")], path="/error"))
    assert (types(log), log[0]["status"]) == (["http.response.start", "http.response.body"], 500)
    assert stamp(log) == "known"
    assert isinstance(raised, ZeroDivisionError)


def test_installing_twice_is_harmless() -> None:
    """The second call changes nothing: there is one session, and one stamp."""
    app = Starlette(routes=ROUTES)
    store = MemoryStore()
    assert install(install(app, store), MemoryStore(), header_name="X-Other") is app
    response = TestClient(app).get("/")
    assert len(response.headers.get_list(SESSION_HEADER)) == 1
    assert "x-other" not in response.headers


def test_installing_too_late_is_a_clear_error() -> None:
    """Once the application has served, its layers are built, and it says so."""
    app = Starlette(routes=ROUTES)
    TestClient(app).get("/nothing")
    with pytest.raises(ConfigurationError, match="before its first request"):
        install(app, MemoryStore())


def test_installing_with_a_wrong_option_is_refused_at_once() -> None:
    """Options are checked where they are given, not at the first request."""
    with pytest.raises(ConfigurationError, match="unknown_ids"):
        install(Starlette(), MemoryStore(), unknown_ids="ignore")  # type: ignore[arg-type]  # on purpose


def test_middleware_can_still_be_added_after_install() -> None:
    """What is added later stands inside, and sees the session."""
    seen: list[Any] = []

    class Inner:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["state"]["hermes_session"].id)
            await self.app(scope, receive, send)

    app = install(Starlette(routes=ROUTES), MemoryStore())
    app.add_middleware(Inner)
    TestClient(app).get("/", headers={SESSION_HEADER: "known"})
    assert seen == ["known"]


async def test_an_installed_store_is_closed_with_the_application(sqlite_url: str) -> None:
    """The lifespan passes through the installed middleware too."""
    closed: list[bool] = []

    class Closable(MemoryStore):
        async def aclose(self) -> None:
            closed.append(True)

    async with lifespan(install(Starlette(), Closable())):
        assert closed == []
    assert closed == [True]


def test_an_installed_application_can_be_mounted(caplog: pytest.LogCaptureFixture) -> None:
    """Mounted in another one it still stamps, its own error page included."""
    inner = install(Starlette(routes=ROUTES), MemoryStore())
    client = TestClient(Starlette(routes=[Mount("/in", inner)]), raise_server_exceptions=False)
    for path, status in (("/in/", 200), ("/in/error", 500)):
        response = client.get(path, headers={SESSION_HEADER: "known"})
        assert response.status_code == status
        assert response.headers.get_list(SESSION_HEADER) == ["known"]
    assert [record for record in caplog.records if record.name == "hermes_session_mw"] == []


async def test_inside_a_framework_one_warning_names_cause_and_cure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many error pages pass by outside, one warning says why, and what to do."""
    calls: list[Exception] = []

    async def own_page(_: Request, exc: Exception) -> Response:
        calls.append(exc)
        return PlainTextResponse("my own page", 500)

    app = Starlette(routes=ROUTES, exception_handlers={Exception: own_page})
    app.add_middleware(HermesSessionMiddleware, MemoryStore())
    for _ in range(3):
        log, raised = await driven(app, http_scope(path="/error"))
        assert (log[1]["body"], stamps(log)) == (b"my own page", [])
        assert isinstance(raised, LookupError)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "install(app)" in record.getMessage()
    assert len(calls) == 3


def raising(exc: BaseException, *before: Message) -> Callable[..., Awaitable[None]]:
    """Return an application that sends ``before``, and raises."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in before:
            await send(message)
        raise exc

    return app


@pytest.mark.parametrize(
    "exc", [LookupError("x"), ExceptionGroup("x", [LookupError("y")]), TimeoutError()]
)
async def test_a_bare_application_that_raises_is_answered_500(exc: Exception) -> None:
    """A stamped plain 500 goes out, and then the very exception goes on."""
    wrapped = HermesSessionMiddleware(raising(exc), MemoryStore())
    log, raised = await driven(wrapped, http_scope([(HEADER, b"known")]))
    assert types(log) == ["http.response.start", "http.response.body"]
    assert (log[0]["status"], stamp(log)) == (500, "known")
    assert log[1]["body"] == b"Internal Server Error"
    assert raised is exc


@pytest.mark.parametrize("before", [[START], [START, {**BODY, "more_body": True}], [START, BODY]])
async def test_after_the_start_there_is_only_the_exception(before: list[Message]) -> None:
    """No second start, and no made-up end that would make a broken stream look whole."""
    exc = LookupError("x")
    wrapped = HermesSessionMiddleware(raising(exc, *before), MemoryStore())
    log, raised = await driven(wrapped, http_scope())
    assert types(log) == types(before)
    assert raised is exc


async def test_headers_that_are_none_are_the_applications_error() -> None:
    """A start whose headers break the specification is answered 500, as any mistake."""
    broken: Message = {"type": "http.response.start", "status": 200, "headers": [b"x"]}
    wrapped = HermesSessionMiddleware(raising(LookupError(), broken), MemoryStore())
    log, raised = await driven(wrapped, http_scope([(HEADER, b"known")]))
    assert (log[0]["status"], stamp(log)) == (500, "known")
    assert isinstance(raised, ValueError)


async def test_an_exception_is_not_lost_where_the_client_is_gone() -> None:
    """If the 500 itself cannot be sent, the application's exception is the one that is seen."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        raise BrokenPipeError

    wrapped = HermesSessionMiddleware(raising(LookupError("mine")), MemoryStore())
    with pytest.raises(LookupError, match="mine"):
        await wrapped(http_scope(), receive, send)


async def test_a_start_that_cannot_be_sent_is_not_tried_again() -> None:
    """After a failed send the connection is gone, and nothing more is sent on it."""
    tried: list[str] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        tried.append(message["type"])
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await HermesSessionMiddleware(app, MemoryStore())(http_scope(), receive, send)
    assert tried == ["http.response.start"]


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
async def test_what_ends_the_process_is_not_answered(exc: BaseException) -> None:
    """An exception that is no error passes at once, and nothing is sent."""
    log: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        log.append(message)

    with pytest.raises(type(exc)):
        await HermesSessionMiddleware(raising(exc), MemoryStore())(http_scope(), receive, send)
    assert log == []


async def test_cancellation_passes() -> None:
    """A cancelled request sends nothing more, and leaves no session behind."""
    log: list[Message] = []

    async def work(_: HermesSession) -> None:
        await anyio.sleep_forever()

    async def send(message: Message) -> None:
        log.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    wrapped = HermesSessionMiddleware(Recorder(work), MemoryStore())
    with anyio.move_on_after(0.05) as scope:
        await wrapped(http_scope(), receive, send)
    assert scope.cancelled_caught
    assert log == []
    assert current_session.get() is None


async def test_a_hook_that_raises_is_a_stamped_500() -> None:
    """A mistake in a hook is the application's error, under the client's id where it is known."""

    def hook(_: Any) -> str:
        raise LookupError("in the hook")

    for option in ({"owner": hook}, {"autoload": hook}, {"exclude": hook}, {"valid_id": hook}):
        wrapped = HermesSessionMiddleware(Recorder(), MemoryStore(), **option)  # type: ignore[arg-type]  # one for all
        log, raised = await driven(wrapped, http_scope([(HEADER, b"known")]))
        assert (log[0]["status"], is_session_id(stamp(log))) == (500, True)
        assert (stamp(log) == "known") == ("owner" in option or "autoload" in option)
        assert isinstance(raised, LookupError)


@pytest.mark.parametrize("framework", [False, True])
async def test_an_application_that_does_not_answer_is_answered_for(
    caplog: pytest.LogCaptureFixture, *, framework: bool
) -> None:
    """Where the application returns without a response, a stamped 500 goes out, and a log line."""

    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None: ...

    scope = http_scope([(HEADER, b"known")], **({"app": object()} if framework else {}))
    log = await request(HermesSessionMiddleware(silent, MemoryStore()), scope=scope)
    assert (log[0]["status"], stamp(log)) == (500, "known")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_outer_handler_still_reads_the_session() -> None:
    """Whoever stands outside finds the session on the state when the application has raised."""
    scope = http_scope([(HEADER, b"known")])
    _, raised = await driven(HermesSessionMiddleware(raising(LookupError()), MemoryStore()), scope)
    assert isinstance(raised, LookupError)
    assert scope["state"]["hermes_session"].id == "known"
    assert scope.keys() == http_scope().keys()


def test_background_tasks_run_with_the_session() -> None:
    """What runs after the response still appends to its session."""
    store = MemoryStore()

    async def endpoint(request: Request) -> Response:
        later = BackgroundTask(get_session(request).append, {"role": "user", "content": "later"})
        return PlainTextResponse("ok", background=later)

    client = TestClient(HermesSessionMiddleware(Starlette(routes=[Route("/", endpoint)]), store))
    client.get("/", headers={SESSION_HEADER: "known"})
    assert anyio.run(store.load, "known").length == 1


async def test_stacked_instances_agree() -> None:
    """The outermost decides, the others pass on; whatever the letter case, there is one stamp."""
    outer_store, inner_store = MemoryStore(), MemoryStore()
    await outer_store.append("known", [{"from": "outer"}])
    await inner_store.append("known", [{"from": "inner"}])
    app = Recorder()
    inner = HermesSessionMiddleware(app, inner_store, header_name="X-HERMES-SESSION-ID")
    outer = HermesSessionMiddleware(inner, outer_store)
    for value in (None, "known"):
        log = await request(outer, value)
        assert stamps(log) == [app.session.id]
    assert app.session.history == [{"from": "outer"}]


async def test_instances_with_other_headers_both_serve() -> None:
    """Two headers are two sessions; the application sees the inner one."""
    app = Recorder()
    inner = HermesSessionMiddleware(app, MemoryStore(), header_name="X-Inner")
    outer = HermesSessionMiddleware(inner, MemoryStore(), header_name="X-Outer")
    scope = http_scope([(b"x-inner", b"in"), (b"x-outer", b"out")])
    log = await request(outer, scope=scope)
    headers = dict(log[0]["headers"])
    assert (headers[b"x-inner"], headers[b"x-outer"]) == (b"in", b"out")
    assert app.session.id == "in"


@pytest.mark.parametrize(
    ("path", "excluded"),
    [
        ("/static", True),
        ("/static/", True),
        ("/static/app.js", True),
        ("/statics", False),
        ("/", False),
        ("/health", True),
        ("/a/health", False),
    ],
)
async def test_excluded_paths_are_served_as_without_the_middleware(
    path: str, *, excluded: bool
) -> None:
    """A path in exclude, and all below it, has no session and no stamp."""
    seen: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send(START)
        await send(BODY)

    scope = http_scope(path=path)
    wrapped = HermesSessionMiddleware(app, MemoryStore(), exclude=["/static/", "/health"])
    log = await request(wrapped, scope=scope)
    assert (log[0] is START) == excluded
    assert (seen[0] is scope) == excluded
    assert ("hermes_session" in scope["state"]) != excluded


def test_exclude_can_be_a_function_of_the_scope() -> None:
    """A predicate decides for each request; without a session, get_session says so."""

    async def endpoint(request: Request) -> Response:
        with pytest.raises(SessionMissing):
            get_session(request)
        return PlainTextResponse("public")

    app = Starlette(routes=[Route("/", endpoint)])
    wrapped = HermesSessionMiddleware(app, MemoryStore(), exclude=lambda s: s["method"] == "GET")
    assert SESSION_HEADER not in TestClient(wrapped).get("/").headers
    assert SESSION_HEADER in TestClient(wrapped).post("/").headers


async def test_excluded_paths_are_written_as_routes_are() -> None:
    """Behind a proxy's path, or in a mount, the path before the routes does not count."""
    wrapped = HermesSessionMiddleware(Recorder(), MemoryStore(), exclude=["/health"])
    scope = http_scope(path="/api/v1/health", root_path="/api/v1")
    with pytest.raises(KeyError):  # the recorder finds no session
        await request(wrapped, scope=scope)
    assert stamps(await request(wrapped, scope=http_scope(path="/api/v1/health")))


@pytest.mark.parametrize("path", ["static", "", "/static/*"])
def test_a_path_that_could_match_nothing_is_refused(path: str) -> None:
    """What looks like a path and never is one is told where it is given."""
    with pytest.raises(ConfigurationError, match="exclude"):
        HermesSessionMiddleware(Recorder(), MemoryStore(), exclude=[path])


@pytest.mark.parametrize("app", [Recorder(), HermesSessionMiddleware(Recorder(), MemoryStore())])
def test_install_is_for_starlette(app: Any) -> None:
    """Any other application is to be wrapped, and the error says so."""
    with pytest.raises(ConfigurationError, match="wrap"):
        install(app, MemoryStore())


def test_an_async_predicate_is_refused() -> None:
    """What would never be awaited, and always be true, is told where it is given."""

    class Predicate:
        async def __call__(self, _: Any) -> bool:
            return False

    with pytest.raises(ConfigurationError, match="exclude: an async function"):
        HermesSessionMiddleware(Recorder(), MemoryStore(), exclude=Predicate())  # type: ignore[arg-type]


def test_a_single_path_is_a_likely_mistake() -> None:
    """A string instead of a list of paths would exclude by its letters, so it is refused."""
    with pytest.raises(ConfigurationError, match=r"\['/static'\]"):
        HermesSessionMiddleware(Recorder(), MemoryStore(), exclude="/static")


def browser_app() -> ASGIApp:
    """Return the set-up of docs/cors.md, for pages of another origin."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=["https://app.example"],
        allow_methods=["GET", "POST"],
        allow_headers=[SESSION_HEADER],
    )
    return install(Starlette(routes=ROUTES, middleware=[cors]), MemoryStore())


def test_a_page_of_another_origin_may_read_the_id() -> None:
    """The header is exposed on every answer to an allowed origin, errors included, and once."""
    client = TestClient(browser_app(), raise_server_exceptions=False)
    for headers in ({}, {SESSION_HEADER: "known"}):
        response = client.get("/", headers={"Origin": "https://app.example", **headers})
        assert response.headers.get_list("access-control-expose-headers") == [SESSION_HEADER]
    response = client.get("/", headers={"Origin": "https://evil.example"})
    assert "access-control-expose-headers" not in response.headers


def test_a_preflight_passes() -> None:
    """A page of another origin is allowed to send the header."""
    response = TestClient(browser_app()).options(
        "/",
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": SESSION_HEADER,
        },
    )
    assert response.status_code == 200
    allowed = response.headers["access-control-allow-headers"].lower()
    assert SESSION_HEADER.lower() in allowed
    assert is_session_id(response.headers[SESSION_HEADER])
