"""The ASGI middleware, and how it finds a request's session.

`HermesSessionMiddleware` handles one request: `SessionResolver` finds its session by the headers,
the owner and the store; the application is called with the session in its scope's state; and
`ResponseStamper` puts the session's id into the response. Afterwards the session's open recordings
and turn are ended, and an error that the application raised is answered.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import anyio
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from hermes_session_mw.asgi import error_responses
from hermes_session_mw.asgi.error_responses import Refusal, log_failure, refusal_of
from hermes_session_mw.asgi.exception_handlers import add_exception_handlers
from hermes_session_mw.asgi.headers import OWS, RawHeaders
from hermes_session_mw.asgi.lifespan import OpenSessions, serve_lifespan
from hermes_session_mw.asgi.options import (
    MiddlewareOptions,
    OptionArguments,
    ask_owner,
    with_options,
)
from hermes_session_mw.asgi.request_headers import OTHER_HEADERS, read_other_headers
from hermes_session_mw.asgi.response_stamper import ResponseStamper, SessionHeader
from hermes_session_mw.exceptions import ConfigurationError, StoreError
from hermes_session_mw.ids import (
    MAX_ID_LENGTH,
    SESSION_ID,
    is_header_safe,
    is_session_id,
    mint_session_id,
)
from hermes_session_mw.logging import current_session, fingerprint, logger
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.session import STATE_KEY, HermesSession
from hermes_session_mw.session.store_client import DEFAULT_TIMEOUT, StoreClient
from hermes_session_mw.stores import Store, StoreLike, as_store

if TYPE_CHECKING:
    from hermes_session_mw.asgi.sweeping import LifespanSweeps

AnyASGIApp = Callable[..., Awaitable[None]]
"""Any ASGI application: frameworks differ in how they type the three arguments."""

_SERVED_FIELDS = "hermes_session_mw"
"""The scope's key for the session headers that an outer instance handles already."""

_CONNECTIONS = frozenset({"http", "websocket"})


class _Answered(Exception):
    """Raised in the application's place if its request is answered already."""


class HermesSessionMiddleware:
    """Give every request its session, and every response its session's id.

    The session is in the scope's state: ``request.state.hermes_session``, or
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
        given: object = app
        if not callable(given) or isinstance(given, type):
            raise ConfigurationError(f"app: {app!r} is not an ASGI application")
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
        self._header = SessionHeader(*chosen.header_name, is_adopted=chosen.unknown_ids == "adopt")
        self._is_excluded = chosen.exclusion()
        self._served_fields = (self._header.field,)
        self._resolver = SessionResolver(self.store, chosen)
        self._telemetry = chosen.telemetry
        # Telemetry is told of every session.
        self._admits_new = self._resolver.admits_new and self._telemetry is None
        self._admits_all = self._resolver.admits_all and self._telemetry is None
        self._answers = self._resolver.answers
        self._sweeps = self._make_sweeps(chosen)
        self._open_sessions = OpenSessions()
        self._register_open = self._open_sessions.add
        # Seconds that open sessions have to end when the lifespan does: as long as storing what
        # broke off is retried.
        self._end_timeout = 2 * (chosen.store_timeout or DEFAULT_TIMEOUT)
        self._close_timeout = None if chosen.store_timeout is None else 2 * chosen.store_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection.

        Most requests come from here to the application without a coroutine in between.
        """
        own_scope = self._claim(scope)
        if (own_scope is scope or self._is_excluded is not None) and await self._serve_other(
            scope, own_scope, receive, send
        ):
            return
        response = ResponseStamper(own_scope, send, self._header)
        # For `SessionIdFilter`. Not with a token, which would be kept as long as the request.
        outer = current_session.get()
        try:
            session, refusal = self._resolver.identify(own_scope)
            response.session = session  # also for an error of the owner hook
            if refusal is None and (self._admits_all or (self._admits_new and session.is_new)):
                current_session.set(session)
            else:
                await self._admit(session, refusal, response, receive)
            own_scope["state"][STATE_KEY] = session
            session.on_open = self._register_open
            session.response_ends_turn = scope["type"] == "http"
            try:
                await self.app(own_scope, receive, response.send)
            finally:
                # The middleware does not end what is opened from now on.
                session.on_open = None
                session.response_ends_turn = False
                if session in self._open_sessions:
                    await self._open_sessions.end(session)
            if not response.started and scope["type"] == "http":
                logger.error("the application returned without a response; it is answered 500")
                await response.answer_server_error()
        except Exception as exc:
            if not await self._answer_exception(exc, scope, response):
                raise
        finally:
            current_session.set(outer)
            if response.on_end is not None:
                response.on_end()

    def _claim(self, scope: Scope) -> Scope:
        """Return a copy of the scope, whose headers can be read twice; or one of others as it is.

        The state is not copied: it belongs to this connection, and an outer error handler that
        reads it finds the session there.
        """
        if scope["type"] not in _CONNECTIONS:
            return scope
        if self._sweeps is not None:
            self._sweeps.note_request()
        own = dict(scope)
        if _SERVED_FIELDS in own:
            if self._header.field in own[_SERVED_FIELDS]:
                return scope
            own[_SERVED_FIELDS] = (*own[_SERVED_FIELDS], self._header.field)
        else:
            own[_SERVED_FIELDS] = self._served_fields
        if type(own.get("headers")) is not list:
            own["headers"] = [*own.get("headers", ())]
        if "state" not in own:
            own["state"] = {}
        return own

    async def _serve_other(
        self, scope: Scope, own_scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Serve what has no session here; return whether it is served.

        That is the lifespan, what an outer instance handles, other types of scopes, and what is
        excluded.
        """
        if scope["type"] == "lifespan":
            with self._answers.owning():
                serve = serve_lifespan if self._sweeps is None else self._sweeps.serve_lifespan
                await serve(self.app, scope, receive, send, self._close_store)
            return True
        if own_scope is not scope and self._is_excluded is not None:
            try:
                if not self._is_excluded(own_scope):
                    return False
            except Exception as exc:
                response = ResponseStamper(own_scope, send, self._header)
                if not await self._answer_exception(exc, scope, response):
                    raise
                return True
        await self.app(scope, receive, send)
        return True

    def _make_sweeps(self, options: MiddlewareOptions) -> "LifespanSweeps | None":
        expiry = getattr(self.store, "expiry", None)
        if expiry is None:
            return None
        from hermes_session_mw.asgi.sweeping import LifespanSweeps  # noqa: PLC0415  # few have any

        return LifespanSweeps(expiry, options)

    async def _admit(
        self,
        session: HermesSession,
        refusal: Refusal | None,
        response: ResponseStamper,
        receive: Receive,
    ) -> None:
        """Ask for the session's owner and history.

        Raises ``_Answered`` if the request is refused, and answered.
        """
        current_session.set(None)  # the session's id is in log records once it is known
        if refusal is None:
            refusal = await self._resolver.admit(session, response.scope)
        current_session.set(session)
        if self._telemetry is not None:
            code = None if refusal is None else refusal.code
            response.on_end = self._telemetry.request(session, code)
        if refusal is not None:
            await response.refuse(refusal, receive)
            raise _Answered

    async def _answer_exception(
        self, exc: Exception, scope: Scope, response: ResponseStamper
    ) -> bool:
        """Answer for an application that raised; return whether its error is handled."""
        if response.started:
            return isinstance(exc, _Answered)
        refusal = refusal_of(exc)
        if refusal is not None:
            log_failure(exc, refusal)
            await response.answer(refusal)
        elif scope["type"] != "http" or self.framework_key not in scope:
            await response.answer_server_error()
        elif not self._warned:
            self._warned = True
            logger.warning(
                "an error page goes out without %s: it is made outside of HermesSessionMiddleware, "
                "which was added inside the framework; use install(app), or wrap the application",
                self._header.name,
            )
        return refusal is not None

    async def _close_store(self) -> None:
        # A server cancels its requests at the end of its grace period, and comes here before they
        # have ended: first the received parts of their answers are stored.
        await self._answers.end(self._end_timeout)
        await self._open_sessions.wait(self._end_timeout)
        try:
            # Our own stores end within their own timeout; another store may have none.
            with anyio.move_on_after(self._close_timeout) as limit:
                await self.store.aclose()
            if limit.cancelled_caught:
                logger.error("the session store was not closed in %s s", self._close_timeout)
        except Exception:  # noqa: BLE001  # the shutdown goes on
            logger.exception("the session store could not be closed")


Field = tuple[bytes, bytes]
"""The name of a header field in lower case, and its value."""


class SessionResolver:
    """Finds or creates the session of each connection, by the middleware's options.

    Attributes:
        admits_new: whether a session with a minted id needs neither the owner hook nor the store.
        admits_all: whether no session needs them.
        answers: the answers that run in this process.
    """

    def __init__(self, store: Store, options: MiddlewareOptions) -> None:
        # Ids that the defaults make and accept can stand in a header; others have to be checked.
        self._accepts_safe = options.valid_id is is_session_id
        makes_safe = self._accepts_safe and options.new_id is mint_session_id
        self._new_id = options.new_id if makes_safe else self._new_checked_id
        # Without a function in between, to save a call for each request.
        self._valid_id = SESSION_ID.fullmatch if self._accepts_safe else options.valid_id
        self.answers: AnswerTasks = AnswerTasks(options.answer_retention)
        self._store = StoreClient(
            store,
            options.store_timeout,
            limit=options.history_limit,
            degrade=options.on_store_error == "empty",
            new_id=self._new_id,
            valid_id=options.valid_id,
            telemetry=options.telemetry,
            answers=self.answers,
        )
        self._options = options
        self._fields = {name.lower().encode("ascii"): name for name in options.header_name}
        self._header_field = next(iter(self._fields))
        self._names = HeaderNames(*self._fields, *OTHER_HEADERS)
        # The owner of a session before the hook was asked.
        self._first_owner = "" if options.owner is None else None
        self.admits_new: bool = options.owner is None
        self.admits_all: bool = (
            self.admits_new and options.autoload is False and options.unknown_ids == "adopt"
        )

    def identify(self, scope: Scope) -> tuple[HermesSession, Refusal | None]:
        """Return a session with the id that the client sent, or a new one, and a refusal or None.

        Raises ``ConfigurationError`` if ``new_id`` made an id that ``valid_id`` does not accept.
        """
        fields = find_fields(scope["headers"], self._names)
        if not fields:
            return self._session(self._new_id(), is_new=True), None
        if len(fields) == 1 and fields[0][0] == self._header_field:  # as in most requests
            session_id = self._accepted(fields[0][1])
            if session_id is not None:
                return self._session(session_id), None
        return self._identify_by(fields)

    def _identify_by(self, fields: list[Field]) -> tuple[HermesSession, Refusal | None]:
        """Return the same for any fields."""
        found: dict[bytes, list[bytes]] = {}
        for field, value in fields:
            found.setdefault(field, []).append(value)
        values: list[bytes] = []
        name = None
        for field, named in self._fields.items():  # the first that is present counts
            given = found.pop(field, [])
            if not values:
                values, name = given, named
        refusal = None
        session_id = self._accepted(values[0]) if len(values) == 1 else None
        if session_id is not None:
            session = self._session(session_id)
        else:
            session = self._session(self._new_id(), is_new=True)
            if values and self._options.invalid_ids == "reject":
                refusal = replace(error_responses.INVALID_ID, param=name)
        if found:
            refusal = refusal or read_other_headers(session, found, self._options)
        return session, refusal

    async def admit(self, session: HermesSession, scope: Scope) -> Refusal | None:
        """Set the session's owner and load its history; return a refusal or None.

        A refusal is sent with the client's own id if that may be right, so that a client keeps its
        conversation while the database fails; otherwise with a minted one.
        """
        options = self._options
        if options.owner is not None:
            session.owner = await ask_owner(options.owner, HTTPConnection(scope))
        is_named = not session.is_new or session.key is not None
        if session.owner is None and (is_named or session.memory_scope is not None):
            return error_responses.OWNER_REQUIRED
        if not is_named:
            return None
        try:
            if await self._load(session, scope):
                return None
        except StoreError as exc:
            logger.warning("session %s is answered 503: %s", fingerprint(session.id), exc)
            logger.debug("the store's failure in full", exc_info=exc)
            return error_responses.STORE_UNAVAILABLE
        session.begin_anew(self._new_id())
        return error_responses.UNKNOWN_ID if options.unknown_ids == "reject" else None

    async def _load(self, session: HermesSession, scope: Scope) -> bool:
        """Load the session if it has to be; return whether the request may continue it."""
        if session.key is not None and await session.resolve_key():
            return True
        autoload = self._options.autoload
        if autoload is True or (autoload is not False and autoload(scope)):
            await session.load()
        # A key leads to a conversation, even if nothing is stored in it yet.
        adopts = self._options.unknown_ids == "adopt" or session.key is not None
        return (adopts and not session.is_deleted) or await session.is_stored()

    def _session(self, session_id: str, *, is_new: bool = False) -> HermesSession:
        session = HermesSession.__new__(HermesSession)
        session.begin(self._store, session_id)
        session.owner = self._first_owner
        session.is_new = is_new
        return session

    def _new_checked_id(self) -> str:
        session_id = self._options.new_id()
        if not (is_header_safe(session_id) and self._valid_id(session_id)):
            raise ConfigurationError("new_id: it made an id that valid_id does not accept")
        return session_id

    def _accepted(self, raw: bytes) -> str | None:
        """Return the id that a client sent, or None if it is not valid."""
        if len(raw) > MAX_ID_LENGTH:
            return None
        value = raw.decode("latin-1")
        is_safe = self._accepts_safe or is_header_safe(value)
        return value if is_safe and self._valid_id(value) else None


class HeaderNames:
    """The names of the header fields that are looked for, in lower case, and their lengths."""

    __slots__ = ("lengths", "names")

    def __init__(self, *names: bytes) -> None:
        self.names: frozenset[bytes] = frozenset(names)
        self.lengths: frozenset[int] = frozenset(map(len, names))


def find_fields(headers: RawHeaders, wanted: HeaderNames) -> list[Field]:
    """Return the wanted fields whose values are not blank, with these trimmed, in order.

    Names are compared without regard to case: that they arrive in lower case is only a "should"
    of the ASGI specification.
    """
    names, lengths = wanted.names, wanted.lengths
    found: list[Field] = []
    for key, value in headers:
        # Most names differ in length from all wanted ones.
        if len(key) in lengths and (name := key.lower()) in names and (text := value.strip(OWS)):
            found.append((name, text))
    return found
