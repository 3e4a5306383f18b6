"""Spans and metrics for OpenTelemetry: ``pip install 'hermes_session_mw[otel]'``.

Only OpenTelemetry's API is needed. Spans and metrics go to the SDK that the application sets up;
without one they are dropped. Names follow OpenTelemetry's semantic conventions where there
is one (``gen_ai.conversation.id``, ``error.type``).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
)

from hermes_session_mw.logging import fingerprint
from hermes_session_mw.session.session import STATE_KEY
from hermes_session_mw.telemetry import ServedSession

_SCOPE = "hermes_session_mw"
CONVERSATION_ID = "gen_ai.conversation.id"
OPERATION = "hermes.store.operation"
MESSAGES = "hermes.store.messages"
STATE = "hermes.session.state"
ERROR_TYPE = "error.type"

# Seconds; from a row in memory to the ``store_timeout`` of a request.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class OpenTelemetry:
    """The middleware's ``telemetry`` option, for OpenTelemetry.

    Attributes on the current span, which is the server's if its instrumentation is outside of the
    middleware: ``gen_ai.conversation.id`` and
    ``hermes.session.state``: ``new`` (the id was minted), ``known``, ``unknown`` (nothing is stored
    under it), ``unread`` (the store was not asked), ``degraded`` (it failed) or ``refused``, with
    the refusal's code in ``error.type``.

    A span for each operation of the store: ``hermes_session.load``, ``hermes_session.append``,
    and so on by the store's methods, with ``hermes.store.messages``, the number that was read or
    stored, and ``error.type``, the class of what it raised.

    Metrics: ``hermes.session.requests``, a counter of requests by state and ``error.type``;
    ``hermes.store.operation.duration``, a histogram in seconds by ``hermes.store.operation`` and
    ``error.type``, which counts the operations too; ``hermes.store.messages``, a counter of the
    messages that were read and stored, by operation.

    With ``baggage``, ``gen_ai.conversation.id`` is in OpenTelemetry's baggage while the application
    serves the request.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        conversation_id: Callable[[str], str] = fingerprint,
        baggage: Callable[[str], str] | None = None,
    ) -> None:
        """Create the instruments.

        Args:
            tracer_provider: OpenTelemetry's global one by default.
            meter_provider: OpenTelemetry's global one by default.
            conversation_id: returns the value of ``gen_ai.conversation.id`` for a session's id.
                By default that is its fingerprint, as in logs, since anyone with an id can read
                the conversation. ``str`` gives the id itself, for backends that are as well
                protected as the database.
            baggage: returns the value of ``gen_ai.conversation.id`` in the baggage for a session's
                id, which an instrumented client sends to every service that the application calls:
                ``fingerprint`` of ``hermes_session_mw.logging``, or ``str`` for the id itself. By
                default there is none.
        """
        self._name = conversation_id
        self._baggage = baggage
        self._tracer = get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = get_meter(_SCOPE, meter_provider=meter_provider)
        self._requests = meter.create_counter(
            "hermes.session.requests", "{request}", "Requests, by the state of their session"
        )
        self._duration = meter.create_histogram(
            "hermes.store.operation.duration",
            "s",
            "How long the session store's operations took",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._messages = meter.create_counter(
            MESSAGES, "{message}", "Messages that were read and stored"
        )

    def request(self, session: ServedSession, refusal: str | None) -> Callable[[], None] | None:
        """See `Telemetry.request`."""
        state = {STATE: _state_of(session, refusal)}
        if refusal is not None:
            state[ERROR_TYPE] = refusal
        self._requests.add(1, state)
        get_current_span().set_attributes({CONVERSATION_ID: self._name(session.id), **state})
        if self._baggage is None or refusal is not None:
            return None
        return partial(detach, attach(set_baggage(CONVERSATION_ID, self._baggage(session.id))))

    def server_request_hook(self, span: Span, scope: dict[str, Any]) -> None:
        """Set the attributes on a span that an instrumentation creates inside of the middleware.

        For ``FastAPIInstrumentor.instrument_app(app, server_request_hook=...)`` and other hooks
        with these arguments; the session is in the scope's state.
        """
        session = scope.get("state", {}).get(STATE_KEY)
        if session is not None:
            state = {STATE: _state_of(session, None)}
            span.set_attributes({CONVERSATION_ID: self._name(session.id), **state})

    @contextmanager
    def operation(self, name: str, session_id: str) -> Iterator["_Operation"]:
        """See `Telemetry.operation`."""
        known = {OPERATION: name}
        named = {CONVERSATION_ID: self._name(session_id)} if session_id else {}
        # An error's text may quote values of a statement, so that only its class is recorded.
        with self._tracer.start_as_current_span(
            f"hermes_session.{name}",
            kind=SpanKind.INTERNAL,
            attributes={**known, **named},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            operation, begun = _Operation(span), time.perf_counter()
            try:
                yield operation
            except BaseException as exc:
                failure = type(exc).__name__
                span.set_attribute(ERROR_TYPE, failure)
                span.set_status(Status(StatusCode.ERROR, failure))
                self._duration.record(time.perf_counter() - begun, {**known, ERROR_TYPE: failure})
                raise
            self._duration.record(time.perf_counter() - begun, known)
            if operation.messages:
                self._messages.add(operation.messages, known)


class _Operation:
    def __init__(self, span: Span) -> None:
        self._span = span
        self.messages = 0

    def count(self, messages: int) -> None:
        self.messages = messages
        self._span.set_attribute(MESSAGES, messages)


def _state_of(session: ServedSession, refusal: str | None) -> str:
    if refusal is not None:
        return "refused"
    if session.is_new:
        return "new"
    if session.degraded:
        return "degraded"
    if session.was_found is None:
        return "unread"
    return "known" if session.was_found else "unknown"
