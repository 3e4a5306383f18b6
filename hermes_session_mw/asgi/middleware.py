"""The ASGI middleware."""

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

import anyio
from starlette.types import Receive, Scope, Send

from hermes_session_mw.asgi.error_responses import log_failure, refusal_of
from hermes_session_mw.asgi.exception_handlers import answer_errors
from hermes_session_mw.asgi.headers import SESSION_HEADER, Stamp
from hermes_session_mw.asgi.lifespan import serve_lifespan
from hermes_session_mw.asgi.options import check_choice, check_functions, check_positive, exclusion
from hermes_session_mw.asgi.response_stamper import ResponseStamper
from hermes_session_mw.asgi.session_resolver import (
    InvalidIds,
    OnStoreError,
    OwnerHook,
    SessionResolver,
    UnknownIds,
)
from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.ids import is_session_id, mint_session_id
from hermes_session_mw.logging import current_session, logger
from hermes_session_mw.session.session import STATE_KEY
from hermes_session_mw.stores import Store, StoreLike, as_store
from hermes_session_mw.telemetry import Telemetry

if TYPE_CHECKING:
    from hermes_session_mw.session.stored import StoredConversation

AnyASGIApp = Callable[..., Awaitable[None]]
"""Each framework types the three arguments in its own way; Starlette's names would refuse some."""

_SERVED = "hermes_session_mw"
"""Where an instance leaves the header that it serves in the scope, for others further in."""

_CONNECTIONS = frozenset({"http", "websocket"})

# Seconds, at the end of the lifespan: where the store may take any time, and between two looks.
_PATIENCE = 5.0
_GLANCE = 0.01


class HermesSessionMiddleware:
    """Give every request its session, and every response its session's id.

    The session stands in the scope's state: ``request.state.hermes_session``, or
    ``scope["state"]["hermes_session"]`` for an application without a framework. The database is
    not touched, and no engine made, before a request brings an id or something is appended.

    It belongs outermost, so that it sees every response that leaves the application.
    """

    def __init__(
        self,
        app: AnyASGIApp,
        store: StoreLike = "sqlite:///hermes_sessions.db",
        *,
        header_name: str = SESSION_HEADER,
        new_id: Callable[[], str] = mint_session_id,
        valid_id: Callable[[str], bool] = is_session_id,
        owner: OwnerHook | None = None,
        unknown_ids: UnknownIds = "adopt",
        invalid_ids: InvalidIds = "reject",
        autoload: bool | Callable[[Scope], bool] = True,
        history_limit: int | None = None,
        on_store_error: OnStoreError = "empty",
        store_timeout: float | None = 5.0,
        exclude: Collection[str] | Callable[[Scope], bool] = (),
        session_keys: bool = False,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Wrap ``app``.

        Args:
            app: any ASGI application.
            store: a SQLAlchemy URL or engine, or any `Store`. It is closed when the application's
                lifespan ends, which disposes of an engine that it made, and of no other.
            header_name: the header to read and to stamp.
            new_id: makes an id of at least 128 random bits that ``valid_id`` accepts.
            valid_id: which ids a client may send; never more than 256 visible ASCII characters.
            owner: tells who may see the session, sync or async, by 1 to 255 characters. None
                closes: a request with an id is answered 401, one without cannot append.
            unknown_ids: what becomes of a valid id under which nothing is stored: it is adopted,
                replaced by a minted one, or answered 404.
            invalid_ids: what becomes of any other value: it is answered 400, or replaced.
            autoload: whether the history is loaded before the application runs, or a function
                of the scope that tells so.
            history_limit: how many of the newest messages to load; None for all.
            on_store_error: what becomes of a request whose history cannot be read: it goes on
                with an empty one (``session.degraded``), or is answered 503.
            store_timeout: seconds that the store has for one operation; None for no end.
            exclude: paths, each with all below it, or a function of the scope: what is served as
                if the middleware were not there.
            session_keys: whether a request without an id may name its conversation by a key of its
                own, in ``X-Hermes-Session-Key``. Needs ``owner``: keys can be guessed.
            telemetry: is told of requests and of what the store does for them; for OpenTelemetry
                give a ``hermes_session_mw.otel.OpenTelemetry``.

        Raises:
            ConfigurationError: an option has a value that cannot work.
        """
        check_functions(new_id=new_id, valid_id=valid_id)
        if owner is not None:
            check_functions(owner=owner)
        if not isinstance(autoload, bool):
            check_functions(autoload=autoload)
        check_choice("unknown_ids", unknown_ids, UnknownIds)
        check_choice("invalid_ids", invalid_ids, InvalidIds)
        check_choice("on_store_error", on_store_error, OnStoreError)
        check_positive("history_limit", history_limit)
        check_positive("store_timeout", store_timeout)
        if session_keys and owner is None:
            raise ConfigurationError(
                "session_keys: give an owner too, or whoever guesses a key reads the conversation"
            )
        self.app = app
        answer_errors(app)
        self.store: Store = as_store(store, store_timeout)
        if session_keys and not hasattr(self.store, "bind_key"):
            raise ConfigurationError(
                f"session_keys: a {type(self.store).__name__} has no keys; give a store that has "
                "bind_key() and move_key()"
            )
        self._stamp = Stamp(header_name)
        self._is_excluded = exclusion(exclude)
        # Where the scope has this, a framework's error page stands outside of the middleware.
        self.framework_key = "app"
        self._warned = False
        self._unended: set[StoredConversation] = set()
        self._patience = _PATIENCE if store_timeout is None else store_timeout
        self._resolver = SessionResolver(
            self.store,
            self._stamp.field,
            new_id=new_id,
            valid_id=valid_id,
            owner=owner,
            unknown_ids=unknown_ids,
            invalid_ids=invalid_ids,
            autoload=autoload,
            history_limit=history_limit,
            on_store_error=on_store_error,
            store_timeout=store_timeout,
            session_keys=session_keys,
            telemetry=telemetry,
        )
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self.app, scope, receive, send, self._close_store)
            return
        is_served = _SERVED in scope and self._stamp.field in scope[_SERVED]
        if is_served or scope["type"] not in _CONNECTIONS:
            await self.app(scope, receive, send)
            return
        own_scope = _own_scope(scope, self._stamp.field)
        responder = ResponseStamper(own_scope, send, self._stamp)
        excluded = False
        try:
            if self._is_excluded is not None and self._is_excluded(own_scope):
                excluded = True
            else:
                await self._respond(own_scope, receive, responder)
        except Exception as exc:
            if responder.started or not await self._answer_exception(exc, scope, responder):
                raise
        finally:
            if responder.token is not None:
                current_session.reset(responder.token)
        if excluded:
            await self.app(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, responder: ResponseStamper) -> None:
        responder.session, refusal = self._resolver.identify(scope)
        session, resolver = responder.session, self._resolver
        if refusal is None and not (
            resolver.admits_all or (resolver.admits_new and session.is_new)
        ):
            responder.session, refusal = await resolver.admit(session, scope)
        # Whatever is logged from here on, by the server's access log too, is of this session.
        responder.token = current_session.set(responder.session)
        if self._telemetry is not None:
            self._telemetry.request(responder.session, None if refusal is None else refusal.code)
        if refusal is not None:
            await responder.refuse(refusal, receive)
            return
        scope["state"][STATE_KEY] = responder.session
        responder.session.unended = self._unended
        responder.session.keeps_turns = scope["type"] == "http"
        try:
            await self.app(scope, receive, responder.send)
        finally:
            # Of what is opened from now on nobody knows the end.
            responder.session.unended = None
            responder.session.keeps_turns = False
            if responder.session.has_open:
                try:
                    await responder.session.end()
                finally:
                    self._unended.discard(responder.session)
        if scope["type"] == "http" and not responder.started:
            logger.error("the application returned without a response; it is answered 500")
            await responder.answer_server_error()

    async def _answer_exception(
        self, exc: Exception, scope: Scope, responder: ResponseStamper
    ) -> bool:
        """Answer for an application that raised; tell whether that was all there is to do."""
        refusal = refusal_of(exc)
        if refusal is None:
            await self._answer_error(scope, responder)
            return False
        log_failure(exc, refusal)
        await responder.answer(refusal)
        return True

    async def _answer_error(self, scope: Scope, responder: ResponseStamper) -> None:
        if scope["type"] != "http" or self.framework_key not in scope:
            await responder.answer_server_error()
        elif not self._warned:
            self._warned = True
            logger.warning(
                "an error page goes out without %s: it is made outside of HermesSessionMiddleware, "
                "which was added inside the framework; use install(app), or wrap the application",
                self._stamp.name,
            )

    async def _close_store(self) -> None:
        # A server that has lost patience cancels what is under way, and comes here before any of it
        # has ended: first what came of those answers is stored.
        with anyio.move_on_after(self._patience):
            while self._unended:  # noqa: ASYNC110  # an Event belongs to one event loop
                await anyio.sleep(_GLANCE)
        try:
            await self.store.aclose()
        except Exception:  # noqa: BLE001  # shutting down goes on, whatever it was
            logger.exception("the session store could not be closed")


def _own_scope(scope: Scope, field: bytes) -> Scope:
    """Return a copy to add to, whose headers can be read twice.

    The state is not copied: it is this connection's own, and an outer error handler that reads it
    finds the session there.
    """
    own = dict(scope)
    headers = own.setdefault("headers", ())
    if not isinstance(headers, (list, tuple)):
        own["headers"] = list(headers)
    if "state" not in own:
        own["state"] = {}
    own[_SERVED] = (*own[_SERVED], field) if _SERVED in own else (field,)
    return own
