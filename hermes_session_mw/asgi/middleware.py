"""The ASGI middleware.

A request passes through these: `SessionResolver` finds its session, the application is called with
the session in its scope's state, and `ResponseStamper` puts the session's id into the response.
Afterwards what the session has open is ended, and an error that the application raised is answered.
"""

from collections.abc import Awaitable, Callable
from typing import Unpack

from starlette.types import Receive, Scope, Send

from hermes_session_mw.asgi.error_responses import log_failure, refusal_of
from hermes_session_mw.asgi.exception_handlers import add_exception_handlers
from hermes_session_mw.asgi.lifespan import OpenSessions, serve_lifespan
from hermes_session_mw.asgi.options import MiddlewareOptions, OptionArguments, with_options
from hermes_session_mw.asgi.response_stamper import ResponseStamper, SessionHeader
from hermes_session_mw.asgi.session_resolver import SessionResolver
from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.logging import current_session, logger
from hermes_session_mw.session.session import STATE_KEY
from hermes_session_mw.session.store_client import PATIENCE
from hermes_session_mw.stores import Store, StoreLike, as_store

AnyASGIApp = Callable[..., Awaitable[None]]
"""Any ASGI application: frameworks differ in how they type the three arguments."""

_SERVED = "hermes_session_mw"
"""The scope's key for the headers that are served, which instances further in then leave alone."""

_CONNECTIONS = frozenset({"http", "websocket"})


class HermesSessionMiddleware:
    """Give every request its session, and every response its session's id.

    The session stands in the scope's state: ``request.state.hermes_session``, or
    ``scope["state"]["hermes_session"]`` for an application without a framework. The database is
    not used, and no engine is created, before a request has an id or something is appended.

    It should be outermost, so that it sees every response of the application.
    """

    @with_options
    def __init__(
        self,
        app: AnyASGIApp,
        store: StoreLike = "sqlite:///hermes_sessions.db",
        **options: Unpack[OptionArguments],
    ) -> None:
        """Wrap ``app``.

        Args:
            app: any ASGI application.
            store: a SQLAlchemy URL or engine, or any `Store`. It is closed when the application's
                lifespan ends, which disposes of an engine that it made, and of no other.
            options: the attributes of `MiddlewareOptions`.

        Raises:
            ConfigurationError: an option has a value that cannot work.
        """
        chosen = MiddlewareOptions(**options)
        self.app = app
        add_exception_handlers(app)
        self.store: Store = as_store(store, chosen.store_timeout)
        if chosen.session_keys and not hasattr(self.store, "bind_key"):
            raise ConfigurationError(
                f"session_keys: a {type(self.store).__name__} has no keys; give a store that has "
                "bind_key() and move_key()"
            )
        # If the scope has this key, a framework's error page is outside of the middleware.
        self.framework_key = "app"
        self._warned = False
        self._header = SessionHeader(chosen.header_name)
        self._is_excluded = chosen.exclusion()
        self._resolver = SessionResolver(self.store, chosen)
        self._telemetry = chosen.telemetry
        self._open_sessions = OpenSessions()
        self._register_open = self._open_sessions.add
        # Seconds that open sessions have to end when the lifespan does.
        self._patience = PATIENCE if chosen.store_timeout is None else chosen.store_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self.app, scope, receive, send, self._close_store)
            return
        is_served = _SERVED in scope and self._header.field in scope[_SERVED]
        if is_served or scope["type"] not in _CONNECTIONS:
            await self.app(scope, receive, send)
            return
        own_scope = _own_scope(scope, self._header.field)
        response = ResponseStamper(own_scope, send, self._header)
        excluded = False
        try:
            if self._is_excluded is not None and self._is_excluded(own_scope):
                excluded = True
            else:
                await self._serve(own_scope, receive, response)
        except Exception as exc:
            if response.started or not await self._answer_exception(exc, scope, response):
                raise
        finally:
            if response.token is not None:
                current_session.reset(response.token)
        if excluded:
            await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, response: ResponseStamper) -> None:
        resolver = self._resolver
        session, refusal = resolver.identify(scope)
        response.session = session  # also for an error of the owner hook
        if refusal is None and not (
            resolver.admits_all or (resolver.admits_new and session.is_new)
        ):
            session, refusal = await resolver.admit(session, scope)
            response.session = session
        # For `SessionIdFilter`: log records from here on, the server's access log too.
        response.token = current_session.set(session)
        if self._telemetry is not None:
            self._telemetry.request(session, None if refusal is None else refusal.code)
        if refusal is not None:
            await response.refuse(refusal, receive)
            return
        scope["state"][STATE_KEY] = session
        session.on_open = self._register_open
        session.response_ends_turn = scope["type"] == "http"
        try:
            await self.app(scope, receive, response.send)
        finally:
            # What is opened from now on is not ended by the middleware.
            session.on_open = None
            session.response_ends_turn = False
            if session in self._open_sessions:
                await self._open_sessions.end(session)
        if scope["type"] == "http" and not response.started:
            logger.error("the application returned without a response; it is answered 500")
            await response.answer_server_error()

    async def _answer_exception(
        self, exc: Exception, scope: Scope, response: ResponseStamper
    ) -> bool:
        """Answer for an application that raised; return whether its error is thereby handled."""
        refusal = refusal_of(exc)
        if refusal is None:
            await self._answer_error(scope, response)
            return False
        log_failure(exc, refusal)
        await response.answer(refusal)
        return True

    async def _answer_error(self, scope: Scope, response: ResponseStamper) -> None:
        if scope["type"] != "http" or self.framework_key not in scope:
            await response.answer_server_error()
        elif not self._warned:
            self._warned = True
            logger.warning(
                "an error page goes out without %s: it is made outside of HermesSessionMiddleware, "
                "which was added inside the framework; use install(app), or wrap the application",
                self._header.name,
            )

    async def _close_store(self) -> None:
        # A server whose grace period is over cancels its requests and comes here before they have
        # ended: first their answers are stored, as far as they came.
        await self._open_sessions.wait(self._patience)
        try:
            await self.store.aclose()
        except Exception:  # noqa: BLE001  # the shutdown goes on
            logger.exception("the session store could not be closed")


def _own_scope(scope: Scope, field: bytes) -> Scope:
    """Return a copy of the scope, whose headers can be read twice.

    The state is not copied: it belongs to this connection, and an outer error handler that reads
    it finds the session there.
    """
    own = dict(scope)
    headers = own.setdefault("headers", ())
    if not isinstance(headers, (list, tuple)):
        own["headers"] = list(headers)
    if "state" not in own:
        own["state"] = {}
    own[_SERVED] = (*own[_SERVED], field) if _SERVED in own else (field,)
    return own
