"""Which session a connection has: the rules of the wire, without the wire."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Literal

from starlette.requests import HTTPConnection
from starlette.types import Scope

from hermes_session_mw.asgi import error_responses
from hermes_session_mw.asgi.error_responses import Refusal
from hermes_session_mw.asgi.headers import Fields, find_fields, join_cookies
from hermes_session_mw.asgi.request_headers import (
    HISTORY_SOURCE,
    IDEMPOTENCY_KEY,
    SESSION_KEY,
    take_wishes,
)
from hermes_session_mw.exceptions import ConfigurationError, InvalidKey, StoreError
from hermes_session_mw.ids import (
    MAX_ID_LENGTH,
    SESSION_ID,
    is_header_safe,
    is_session_id,
    mint_session_id,
)
from hermes_session_mw.logging import fingerprint, logger
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores import Store, check_keys
from hermes_session_mw.telemetry import Telemetry

OwnerHook = Callable[[HTTPConnection], Awaitable[str | None] | str | None]
UnknownIds = Literal["adopt", "mint", "reject"]
InvalidIds = Literal["reject", "mint"]
OnStoreError = Literal["empty", "unavailable"]
Resolved = tuple[HermesSession, Refusal | None]


class SessionResolver:
    """Finds or makes the session of a connection; the options are the middleware's.

    Attributes:
        admits_new: whether nobody has to be asked about a session whose id was minted.
        admits_all: whether nobody has to be asked about any.
    """

    def __init__(
        self,
        store: Store,
        field: bytes,
        *,
        new_id: Callable[[], str],
        valid_id: Callable[[str], bool],
        owner: OwnerHook | None,
        unknown_ids: UnknownIds,
        invalid_ids: InvalidIds,
        autoload: bool | Callable[[Scope], bool],
        history_limit: int | None,
        on_store_error: OnStoreError,
        store_timeout: float | None,
        session_keys: bool,
        telemetry: Telemetry | None,
    ) -> None:
        """Keep the options; ``field`` is the header's name in lower case."""
        # What these make and accept is fit for a header, as the others' need not be.
        makes_safe = new_id is mint_session_id and valid_id is is_session_id
        self._mint = new_id if makes_safe else self._mint_checked
        self._access = StoreClient(
            store,
            store_timeout,
            limit=history_limit,
            degrade=on_store_error == "empty",
            new_id=self._mint,
            telemetry=telemetry,
        )
        self._field = field
        keys = (SESSION_KEY,) if session_keys else ()
        self._fields = Fields(field, HISTORY_SOURCE, IDEMPOTENCY_KEY, *keys)
        self._new_id = new_id
        # Without a function between, which is a call less for each request.
        self._valid_id = SESSION_ID.fullmatch if valid_id is is_session_id else valid_id
        self._owner = owner
        self._unknown_ids = unknown_ids
        self._invalid_ids = invalid_ids
        self._autoload = autoload
        self._accepts_safe = valid_id is is_session_id
        self._nobody = "" if owner is None else None  # who owns a session before the hook was asked
        self.admits_new: bool = owner is None
        self.admits_all: bool = owner is None and autoload is False and unknown_ids == "adopt"

    def identify(self, scope: Scope) -> Resolved:
        """Return a session under the id that the client sent, or a new one; not admitted yet.

        Raises:
            ConfigurationError: ``new_id`` made an id that ``valid_id`` does not accept.
        """
        found = find_fields(scope["headers"], self._fields)
        if not found:
            return self._new_session(self._nobody), None
        values = found.pop(self._field, ())
        refusal = None
        session_id = self._valid(values[0]) if len(values) == 1 else None
        if session_id is not None:
            session = HermesSession(self._access, session_id, owner=self._nobody)
        else:
            session = self._new_session(self._nobody)
            if values and self._invalid_ids == "reject":
                refusal = error_responses.INVALID_ID
        if found:
            refusal = refusal or take_wishes(session, found)
        return session, refusal

    async def admit(self, session: HermesSession, scope: Scope) -> Resolved:
        """Return the session with its owner, loaded where it is to be, or a refusal beside it.

        A refusal goes out under the session's id. That is the client's own where it may be right,
        so that a failing database costs nobody the thread, and else a minted one.
        """
        if self._owner is not None:
            session.owner = await ask_owner(self._owner, HTTPConnection(scope))
        if session.is_new and session.key is None:
            return session, None
        if session.owner is None:
            return session, error_responses.OWNER_REQUIRED
        try:
            if session.key is not None and await session.follow_key():
                return session, None
            autoload = self._autoload
            if autoload is True or (autoload is not False and autoload(scope)):
                await session.load()
            # Where a key leads there is a conversation, though nothing was said in it yet.
            adopts = self._unknown_ids == "adopt" or session.key is not None
            adopts = adopts and not session.is_deleted
            if adopts or await session.is_stored():
                return session, None
        except StoreError as exc:
            logger.warning("session %s is answered 503: %s", fingerprint(session.id), exc)
            logger.debug("the store's failure in full", exc_info=exc)
            return session, error_responses.STORE_UNAVAILABLE
        refusal = error_responses.UNKNOWN_ID if self._unknown_ids == "reject" else None
        minted = self._new_session(session.owner)
        # What else the request wishes for holds for whatever session it gets.
        minted.idempotency_key = session.idempotency_key
        minted.history_source = session.history_source
        return minted, refusal

    def _mint_checked(self) -> str:
        session_id = self._new_id()
        if not (is_header_safe(session_id) and self._valid_id(session_id)):
            raise ConfigurationError("new_id: it made an id that valid_id does not accept")
        return session_id

    def _new_session(self, owner: str | None) -> HermesSession:
        return HermesSession(self._access, self._mint(), owner=owner, is_new=True)

    def _valid(self, raw: bytes) -> str | None:
        if len(raw) > MAX_ID_LENGTH:
            return None
        value = raw.decode("latin-1")
        is_safe = self._accepts_safe or is_header_safe(value)
        return value if is_safe and self._valid_id(value) else None


async def ask_owner(hook: OwnerHook, connection: HTTPConnection) -> str | None:
    """Return whose the connection is; None also for a name that nothing can be stored under."""
    # Of several fields, ``headers["cookie"]`` is the first alone; so is ``cookies``, in Starlette
    # before 0.49.3.
    connection.scope["headers"] = join_cookies(connection.scope["headers"])
    answer = hook(connection)
    owner = await answer if inspect.isawaitable(answer) else answer
    try:
        check_keys("-", owner or "")
    except InvalidKey as exc:
        logger.warning("the owner hook's answer is treated as None: %s", exc)
        return None
    return owner or None  # an empty name is nobody's, and must not be everybody's
