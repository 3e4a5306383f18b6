"""The ASGI middleware."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypedDict, get_args

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import refusals
from .exceptions import ConfigurationError, InvalidKey, StoreError
from .headers import SESSION_HEADER, field_name, field_values, stamp
from .ids import MAX_ID_LENGTH, is_header_safe, is_session_id, mint_session_id
from .logging import current_session, fingerprint, logger
from .refusals import Refusal
from .session import STATE_KEY, HermesSession
from .stores import StoreLike, as_store, check_keys

OwnerHook = Callable[[HTTPConnection], Awaitable[str | None] | str | None]
UnknownIds = Literal["adopt", "mint", "reject"]
InvalidIds = Literal["reject", "mint"]
OnStoreError = Literal["empty", "unavailable"]


class _SessionOptions(TypedDict):
    limit: int | None
    timeout: float | None
    degrade: bool


class HermesSessionMiddleware:
    """Give every request its session, and every response its session's id.

    The session stands in the scope's state: ``request.state.hermes_session``, or
    ``scope["state"]["hermes_session"]`` for an application without a framework. The database is
    not touched, and no engine made, before a request brings an id or something is appended.

    It belongs outermost, so that it sees every response that leaves the application.
    """

    def __init__(
        self,
        app: ASGIApp,
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
    ) -> None:
        """Wrap ``app``.

        Args:
            app: any ASGI application.
            store: a SQLAlchemy URL or engine, or any `Store`. It is closed when the application's
                lifespan ends, which disposes of an engine that it made, and of no other.
            header_name: the header to read and to stamp.
            new_id: makes an id of at least 128 random bits that ``valid_id`` accepts.
            valid_id: which ids a client may send; never more than 256 visible ASCII characters.
            owner: tells who may see the session, sync or async. None closes: a request with an
                id is answered 401, one without cannot append.
            unknown_ids: what becomes of a valid id under which nothing is stored: it is adopted,
                replaced by a minted one, or answered 404.
            invalid_ids: what becomes of any other value: it is answered 400, or replaced.
            autoload: whether the history is loaded before the application runs, or a function
                of the scope that tells so.
            history_limit: how many of the newest messages to load; None for all.
            on_store_error: what becomes of a request whose history cannot be read: it goes on
                with an empty one (``session.degraded``), or is answered 503.
            store_timeout: seconds that the store has for one operation; None for no end.

        Raises:
            ConfigurationError: an option has a value that cannot work.
        """
        _check_choice("unknown_ids", unknown_ids, UnknownIds)
        _check_choice("invalid_ids", invalid_ids, InvalidIds)
        _check_choice("on_store_error", on_store_error, OnStoreError)
        _check_positive("history_limit", history_limit)
        _check_positive("store_timeout", store_timeout)
        self.app = app
        self.store = as_store(store)
        self._header_name = header_name
        self._field = field_name(header_name)
        self._new_id = new_id
        self._valid_id = valid_id
        self._owner = owner
        self._unknown_ids = unknown_ids
        self._invalid_ids = invalid_ids
        self._autoload = autoload if callable(autoload) else lambda _: autoload
        self._session_options: _SessionOptions = {
            "limit": history_limit,
            "timeout": store_timeout,
            "degrade": on_store_error == "empty",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            await self._serve_http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send))
        else:
            await self.app(scope, receive, send)

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = _own_scope(scope)
        resolved = await self._resolve(scope)
        if isinstance(resolved, Refusal):
            send = self._stamping(send, self._new_session())
            for message in resolved.http_messages(self._header_name):
                await send(message)
            return
        scope["state"][STATE_KEY] = resolved
        token = current_session.set(resolved)
        try:
            await self.app(scope, receive, self._stamping(send, resolved))
        finally:
            current_session.reset(token)

    def _stamping(self, send: Send, session: HermesSession) -> Send:
        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                value = session.id.encode("ascii")
                headers = stamp(message.get("headers") or (), self._field, value)
                message = {**message, "headers": headers}
            await send(message)

        return send_stamped

    def _closing(self, send: Send) -> Send:
        async def send_after_closing(message: Message) -> None:
            # Servers stop as soon as they see one of these, so the store goes first.
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                try:
                    await self.store.aclose()
                except Exception:  # noqa: BLE001  # shutting down goes on, whatever it was
                    logger.exception("the session store could not be closed")
            await send(message)

        return send_after_closing

    async def _resolve(self, scope: Scope) -> HermesSession | Refusal:
        values = field_values(scope["headers"], self._field)
        session_id = self._only_valid(values)
        if values and session_id is None and self._invalid_ids == "reject":
            return refusals.INVALID_ID
        owner = await self._owner_of(scope)
        if session_id is None:
            return self._new_session(owner)
        if owner is None:
            return refusals.OWNER_REQUIRED
        session = HermesSession(self.store, session_id, owner=owner, **self._session_options)
        try:
            return await self._look_up(session, scope)
        except StoreError as exc:
            logger.warning("session %s is answered 503: %s", fingerprint(session_id), exc)
            logger.debug("the store's failure in full", exc_info=exc)
            return refusals.STORE_UNAVAILABLE

    async def _look_up(self, session: HermesSession, scope: Scope) -> HermesSession | Refusal:
        if self._autoload(scope):
            await session.load()
        if self._unknown_ids == "adopt" or await session.is_stored():
            return session
        if self._unknown_ids == "reject":
            return refusals.UNKNOWN_ID
        return self._new_session(session.owner)

    def _only_valid(self, values: list[bytes]) -> str | None:
        if len(values) != 1 or len(values[0]) > MAX_ID_LENGTH:
            return None
        value = values[0].decode("latin-1")
        return value if is_header_safe(value) and self._valid_id(value) else None

    async def _owner_of(self, scope: Scope) -> str | None:
        if self._owner is None:
            return ""
        answer = self._owner(HTTPConnection(scope))
        owner = await answer if inspect.isawaitable(answer) else answer
        try:
            check_keys("-", owner or "")
        except InvalidKey as exc:
            logger.warning("the owner hook's answer is treated as None: %s", exc)
            return None
        return owner or None  # an empty name is nobody's, and must not be everybody's

    def _new_session(self, owner: str | None = None) -> HermesSession:
        return HermesSession(
            self.store, self._mint(), owner=owner, is_new=True, **self._session_options
        )

    def _mint(self) -> str:
        session_id = self._new_id()
        if not (is_header_safe(session_id) and self._valid_id(session_id)):
            raise ConfigurationError("new_id: it made an id that valid_id does not accept")
        return session_id


def _own_scope(scope: Scope) -> Scope:
    """Return a copy to add to, whose headers can be read twice.

    The state is not copied: it is this request's own, and an outer error handler that reads it
    finds the session there.
    """
    headers = scope.get("headers", ())
    return {
        **scope,
        "headers": headers if isinstance(headers, list | tuple) else list(headers),
        "state": scope.get("state", {}),
    }


def _check_choice(option: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        known = ", ".join(repr(choice) for choice in get_args(choices))
        raise ConfigurationError(f"{option}: {value!r} is none of {known}")


def _check_positive(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigurationError(f"{option}: {value!r} is not more than 0")
