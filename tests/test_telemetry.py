"""What OpenTelemetry gets to see: the request's span, a span for each operation, and counters."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    History,
    MemoryStore,
    SQLAlchemyStore,
    StoreUnavailable,
    get_session,
    install,
    session_routes,
)
from hermes_session_mw.logging import fingerprint
from hermes_session_mw.otel import OpenTelemetry
from tests.support.asgi import HEADER, http_scope, request

USER, REPLY = {"role": "user", "content": "secret text"}, {"role": "assistant", "content": "hi"}
ID = "gen_ai.conversation.id"


class Seen(NamedTuple):
    """An OpenTelemetry SDK that keeps all in memory, and ours on it."""

    spans: InMemorySpanExporter
    metrics: InMemoryMetricReader
    tracers: TracerProvider
    meters: MeterProvider
    telemetry: OpenTelemetry

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return a metric's attributes and value, or count and sum, by attributes."""
        data = self.metrics.get_metrics_data()
        assert data is not None
        (metric,) = (
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        )
        return [
            (dict(point.attributes or {}), getattr(point, "value", None) or point.count)  # type: ignore[union-attr]
            for point in metric.data.data_points
        ]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """An SDK of the test's own."""
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([metrics])
    telemetry = OpenTelemetry(tracer_provider=tracers, meter_provider=meters)
    yield Seen(spans, metrics, tracers, meters, telemetry)
    tracers.shutdown()
    meters.shutdown()


class Failing(MemoryStore):
    """A store that is down."""

    async def load(self, *_: Any, **__: Any) -> History:
        raise StoreUnavailable("secret details")


async def chat(request: Request) -> Response:
    session = get_session(request)
    return JSONResponse(await session.append(USER, REPLY))


ROUTES = [Route("/chat", chat, methods=["POST"])]


async def test_spans_for_load_and_append_have_the_conversations_id(seen: Seen) -> None:
    """Each operation has a span with the id's fingerprint and the number of messages."""
    store = MemoryStore()
    await store.append("my-thread", [USER, REPLY])
    app = HermesSessionMiddleware(Starlette(routes=ROUTES), store, telemetry=seen.telemetry)
    scope = http_scope([(HEADER, b"my-thread")], path="/chat", method="POST")
    with seen.tracers.get_tracer("server").start_as_current_span("request"):
        await request(app, scope=scope)
    (load,), (append,) = seen.named("hermes_session.load"), seen.named("hermes_session.append")
    (parent,) = seen.named("request")
    name = fingerprint("my-thread")
    assert dict(load.attributes or {}) == {
        ID: name,
        "hermes.store.operation": "load",
        "hermes.store.messages": 2,
    }
    assert dict(append.attributes or {}) == {
        ID: name,
        "hermes.store.operation": "append",
        "hermes.store.messages": 2,
    }
    assert {span.kind for span in (load, append)} == {SpanKind.INTERNAL}
    assert {span.parent and span.parent.span_id for span in (load, append)} == {
        parent.context and parent.context.span_id
    }
    assert dict(parent.attributes or {}) == {ID: name, "hermes.session.state": "known"}


async def test_the_current_span_is_around_what_the_store_does(seen: Seen) -> None:
    """What a store's driver reports of its own is a child of the operation's span."""

    class Traced(MemoryStore):
        async def load(self, *arguments: Any, **options: Any) -> History:
            with seen.tracers.get_tracer("driver").start_as_current_span("SELECT"):
                return await super().load(*arguments, **options)

    app = HermesSessionMiddleware(Starlette(), Traced(), telemetry=seen.telemetry)
    await request(app, scope=http_scope([(HEADER, b"id")]))
    (select,), (load,) = seen.named("SELECT"), seen.named("hermes_session.load")
    assert select.parent == load.context


async def test_the_other_operations_have_spans_too(seen: Seen) -> None:
    """Taking a turn, rewinding, compacting, forking and rotating are seen by the store's names."""

    async def edit(request: Request) -> Response:
        session = get_session(request)
        async with session.turn() as turn:
            await session.append(USER, REPLY, USER, REPLY, turn_id="t")
            await turn.extend()
            await session.find_turn("t")
            await session.rewind(3)
            await session.compact(keep=1, summary=[USER])
            await session.fork()
        await session.rotate()
        return JSONResponse(session.id)

    app = Starlette(routes=[Route("/", edit)])
    wrapped = HermesSessionMiddleware(app, MemoryStore(), telemetry=seen.telemetry)
    await request(wrapped, scope=http_scope([(HEADER, b"id")]))
    names = [span.name.removeprefix("hermes_session.") for span in seen.spans.get_finished_spans()]
    edits = ["append", "extend", "find_turn", "rewind", "compact", "fork", "load"]
    # The turn goes along to the new id, and ends with the response.
    assert names == ["load", "acquire", "load", *edits, "rotate", "acquire", "release"]


async def test_keys_and_routes_have_spans_too(seen: Seen) -> None:
    """So are following a key, beginning anew under it, and the session routes' operations."""
    store = MemoryStore()
    routes = session_routes(store, telemetry=seen.telemetry)

    async def renew(request: Request) -> Response:
        return JSONResponse(await get_session(request).renew())

    app = HermesSessionMiddleware(
        Starlette(routes=[*routes, Route("/renew", renew)]),
        store,
        owner=lambda _: "ada",
        session_keys=True,
        telemetry=seen.telemetry,
    )
    await request(app, scope=http_scope([(b"x-hermes-session-key", b"room")], path="/renew"))
    await request(app, scope=http_scope(path="/sessions"))
    spans = seen.spans.get_finished_spans()
    assert [span.name for span in spans] == [
        "hermes_session.bind_key",
        "hermes_session.move_key",
        "hermes_session.list",
    ]
    assert ID not in (spans[2].attributes or {})  # it is about no session


async def test_a_failure_is_told_by_its_class_alone(seen: Seen) -> None:
    """A span has the error's class, and never its text, which may quote what was stored."""
    app = HermesSessionMiddleware(Starlette(), Failing(), telemetry=seen.telemetry)
    with seen.tracers.get_tracer("server").start_as_current_span("request"):
        await request(app, scope=http_scope([(HEADER, b"id")]))
    (load,) = seen.named("hermes_session.load")
    assert (load.attributes or {})["error.type"] == "StoreUnavailable"
    assert (load.status.status_code, load.status.description) == (
        StatusCode.ERROR,
        "StoreUnavailable",
    )
    assert load.events == ()
    (parent,) = seen.named("request")
    assert (parent.attributes or {})["hermes.session.state"] == "degraded"
    attributes = {"hermes.store.operation": "load", "error.type": "StoreUnavailable"}
    assert seen.points("hermes.store.operation.duration") == [(attributes, 1)]


@pytest.mark.parametrize(
    ("options", "headers", "state"),
    [
        ({}, [], {"hermes.session.state": "new"}),
        ({}, [(HEADER, b"known")], {"hermes.session.state": "known"}),
        ({}, [(HEADER, b"other")], {"hermes.session.state": "unknown"}),
        ({"autoload": False}, [(HEADER, b"known")], {"hermes.session.state": "unread"}),
        ({"unknown_ids": "mint"}, [(HEADER, b"other")], {"hermes.session.state": "new"}),
        (
            {},
            [(HEADER, b"no good")],
            {"hermes.session.state": "refused", "error.type": "invalid_session_id"},
        ),
        (
            {"unknown_ids": "reject"},
            [(HEADER, b"other")],
            {"hermes.session.state": "refused", "error.type": "session_not_found"},
        ),
        (
            {"store": Failing(), "on_store_error": "unavailable"},
            [(HEADER, b"known")],
            {"hermes.session.state": "refused", "error.type": "session_store_unavailable"},
        ),
    ],
)
async def test_requests_are_counted_by_what_is_known_of_their_session(
    seen: Seen,
    options: dict[str, Any],
    headers: list[tuple[bytes, bytes]],
    state: dict[str, str],
) -> None:
    """Every request counts once, by the session's state or the refusal's code; no id is a label."""
    store = MemoryStore()
    await store.append("known", [USER])
    options = {"store": store, **options, "telemetry": seen.telemetry}
    app = HermesSessionMiddleware(Starlette(), **options)
    await request(app, scope=http_scope(headers))
    await request(app, scope=http_scope(headers))
    assert seen.points("hermes.session.requests") == [(state, 2)]


async def test_excluded_requests_are_not_counted(seen: Seen) -> None:
    """What is served as if the middleware were not there is not told of either."""
    app = HermesSessionMiddleware(
        Starlette(), MemoryStore(), exclude=["/healthz"], telemetry=seen.telemetry
    )
    await request(app, scope=http_scope(path="/healthz"))
    assert seen.metrics.get_metrics_data() is None


async def test_messages_and_operations_are_counted(seen: Seen, tmp_path: Any) -> None:
    """What was read and stored is counted by operation, on a real database as well."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    app = HermesSessionMiddleware(Starlette(routes=ROUTES), store, telemetry=seen.telemetry)
    for _ in range(3):
        await request(app, scope=http_scope([(HEADER, b"id")], path="/chat", method="POST"))
    await store.aclose()
    load, append = {"hermes.store.operation": "load"}, {"hermes.store.operation": "append"}
    assert seen.points("hermes.store.messages") == [(append, 6), (load, 0 + 2 + 4)]
    assert seen.points("hermes.store.operation.duration") == [(load, 3), (append, 3)]


async def test_the_id_itself_goes_out_only_where_it_is_asked_for(seen: Seen) -> None:
    """``conversation_id`` says what stands for the id; by default nothing gives it away."""
    telemetry = OpenTelemetry(
        tracer_provider=seen.tracers, meter_provider=seen.meters, conversation_id=str
    )
    for told, expected in ((seen.telemetry, fingerprint("my-thread")), (telemetry, "my-thread")):
        app = HermesSessionMiddleware(Starlette(), MemoryStore(), telemetry=told)
        await request(app, scope=http_scope([(HEADER, b"my-thread")]))
        assert (seen.spans.get_finished_spans()[-1].attributes or {})[ID] == expected
    assert "my-thread" not in repr(seen.metrics.get_metrics_data())


def test_the_asgi_instrumentation_around_it_has_the_id_on_its_span(seen: Seen) -> None:
    """OpenTelemetry's own ASGI middleware, outermost, makes the span that is marked."""
    inner = HermesSessionMiddleware(
        Starlette(routes=ROUTES), MemoryStore(), telemetry=seen.telemetry
    )
    app = OpenTelemetryMiddleware(
        inner, tracer_provider=seen.tracers, meter_provider=seen.meters, exclude_spans=["send"]
    )
    with TestClient(app) as client:
        client.post("/chat", headers={"X-Hermes-Session-Id": "id"}).raise_for_status()
    (load,), server = seen.named("hermes_session.load"), _server_span(seen)
    assert load.parent == server.context


def test_an_instrumented_fastapi_has_the_id_on_its_span(seen: Seen) -> None:
    """The instrumentation's hook marks the span that FastAPI's instrumentation makes further in."""
    api = FastAPI()

    @api.post("/chat")
    async def answer(request: Request) -> int:
        return await get_session(request).append(USER, REPLY)

    FastAPIInstrumentor.instrument_app(
        api,
        tracer_provider=seen.tracers,
        meter_provider=seen.meters,
        exclude_spans=["send"],
        server_request_hook=seen.telemetry.server_request_hook,
    )
    install(api, MemoryStore(), telemetry=seen.telemetry)
    with TestClient(api) as client:
        client.post("/chat", headers={"X-Hermes-Session-Id": "id"}).raise_for_status()
    assert _server_span(seen).name == "POST /chat"


async def test_the_hook_leaves_requests_without_a_session(seen: Seen) -> None:
    """Where the middleware is excluded, or stands further in, the hook adds nothing."""
    with seen.tracers.get_tracer("server").start_as_current_span("request") as span:
        seen.telemetry.server_request_hook(span, dict(http_scope()))
    assert not seen.named("request")[0].attributes


def _server_span(seen: Seen) -> ReadableSpan:
    spans = seen.spans.get_finished_spans()
    (server,) = (span for span in spans if span.kind is SpanKind.SERVER)
    assert (server.attributes or {})[ID] == fingerprint("id")
    assert (server.attributes or {})["hermes.session.state"] == "unknown"
    (append,) = seen.named("hermes_session.append")
    assert append.context is not None
    assert server.context is not None
    assert append.context.trace_id == server.context.trace_id
    return server


def test_without_an_sdk_nothing_happens() -> None:
    """With OpenTelemetry's API alone the requests are served, and nobody is told."""
    program = """
import sys
sys.modules["opentelemetry.sdk"] = None
from starlette.applications import Starlette
from starlette.testclient import TestClient
from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from hermes_session_mw.otel import OpenTelemetry
app = HermesSessionMiddleware(Starlette(), MemoryStore(), telemetry=OpenTelemetry())
answer = TestClient(app).get("/", headers={"X-Hermes-Session-Id": "id"})
print(answer.headers["X-Hermes-Session-Id"])
"""
    command = [sys.executable, "-W", "error", "-c", program]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"id\n"


def test_opentelemetry_is_imported_only_where_it_is_used() -> None:
    """The package itself does without it."""
    program = """
import sys
from hermes_session_mw import *
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_a_session_says_whether_it_was_found() -> None:
    """None until somebody has looked, and where the store failed."""
    store = MemoryStore()
    await store.append("known", [USER])
    known, unknown, failing = (
        HermesSession(store, "known"),
        HermesSession(store, "unknown"),
        HermesSession(Failing(), "known"),
    )
    assert [session.was_found for session in (known, unknown, failing)] == [None, None, None]
    await known.load()
    await unknown.load()
    assert [known.was_found, unknown.was_found] == [True, False]


@pytest.mark.parametrize(
    ("value", "expected"), [(fingerprint, fingerprint("my-thread")), (str, "my-thread")]
)
async def test_the_baggage_has_the_conversation_while_it_is_served(
    value: Callable[[str], str], expected: str
) -> None:
    """What the application calls is told the conversation, in place of what the client said."""
    told: list[object] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        told.append(get_baggage(ID))
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        if len(told) > 1:
            raise RuntimeError

    wrapped = HermesSessionMiddleware(app, MemoryStore(), telemetry=OpenTelemetry(baggage=value))
    token = attach(set_baggage(ID, "the client's"))
    await request(wrapped, "my-thread")
    with pytest.raises(RuntimeError):
        await request(wrapped, "my-thread")
    assert told == [expected, expected]
    assert get_baggage(ID) == "the client's"
    detach(token)


async def test_there_is_no_baggage_unless_asked() -> None:
    """By default nothing of the conversation is handed on, and nothing for a refused request."""
    told: list[object] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        told.append(get_baggage(ID))
        await send({"type": "http.response.start", "status": 204})

    for telemetry in (OpenTelemetry(), OpenTelemetry(baggage=str)):
        wrapped = HermesSessionMiddleware(app, MemoryStore(), telemetry=telemetry)
        await request(wrapped, "not an id")
        assert get_baggage(ID) is None
    await request(HermesSessionMiddleware(app, MemoryStore(), telemetry=OpenTelemetry()), "a")
    assert told == [None]
