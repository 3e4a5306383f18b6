"""Finds the session of a request, by its headers, its owner and the store."""

import inspect

from starlette.requests import HTTPConnection
from starlette.types import Scope

from hermes_session_mw.asgi import error_responses
from hermes_session_mw.asgi.error_responses import Refusal
from hermes_session_mw.asgi.headers import OWS, RawHeaders, join_cookies
from hermes_session_mw.asgi.options import MiddlewareOptions, OwnerHook
from hermes_session_mw.asgi.request_headers import (
    HISTORY_SOURCE,
    IDEMPOTENCY_KEY,
    SESSION_KEY,
    read_other_headers,
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

Resolved = tuple[HermesSession, Refusal | None]


class SessionResolver:
    """Finds or creates the session of each connection, by the middleware's options.

    Attributes:
        admits_new: whether a session with a minted id needs neither the owner hook nor the store.
        admits_all: whether no session needs them.
    """

    def __init__(self, store: Store, options: MiddlewareOptions) -> None:
        # Ids that the defaults make and accept can stand in a header; others have to be checked.
        self._accepts_safe = options.valid_id is is_session_id
        makes_safe = self._accepts_safe and options.new_id is mint_session_id
        self._new_id = options.new_id if makes_safe else self._new_checked_id
        # Without a function in between, to save a call for each request.
        self._valid_id = SESSION_ID.fullmatch if self._accepts_safe else options.valid_id
        self._store = StoreClient(
            store,
            options.store_timeout,
            limit=options.history_limit,
            degrade=options.on_store_error == "empty",
            new_id=self._new_id,
            telemetry=options.telemetry,
        )
        self._options = options
        self._field = options.header_name.lower().encode("ascii")
        keys = (SESSION_KEY,) if options.session_keys else ()
        self._names = HeaderNames(self._field, HISTORY_SOURCE, IDEMPOTENCY_KEY, *keys)
        # The owner of a session before the hook was asked.
        self._first_owner = "" if options.owner is None else None
        self.admits_new: bool = options.owner is None
        self.admits_all: bool = (
            self.admits_new and options.autoload is False and options.unknown_ids == "adopt"
        )

    def identify(self, scope: Scope) -> Resolved:
        """Return a session with the id that the client sent, or a new one, and a refusal or None.

        Raises:
            ConfigurationError: ``new_id`` made an id that ``valid_id`` does not accept.
        """
        found = find_fields(scope["headers"], self._names)
        if not found:
            return self._new_session(self._first_owner), None
        values = found.pop(self._field, ())
        refusal = None
        session_id = self._accepted(values[0]) if len(values) == 1 else None
        if session_id is not None:
            session = HermesSession(self._store, session_id, owner=self._first_owner)
        else:
            session = self._new_session(self._first_owner)
            if values and self._options.invalid_ids == "reject":
                refusal = error_responses.INVALID_ID
        if found:
            refusal = refusal or read_other_headers(session, found)
        return session, refusal

    async def admit(self, session: HermesSession, scope: Scope) -> Resolved:
        """Return the session with its owner and history, and a refusal or None.

        A refusal is sent with the client's own id if that may be right, so that no client loses its
        conversation by a failing database, and else with a minted one.
        """
        options = self._options
        if options.owner is not None:
            session.owner = await ask_owner(options.owner, HTTPConnection(scope))
        if session.is_new and session.key is None:
            return session, None
        if session.owner is None:
            return session, error_responses.OWNER_REQUIRED
        try:
            if await self._load(session, scope):
                return session, None
        except StoreError as exc:
            logger.warning("session %s is answered 503: %s", fingerprint(session.id), exc)
            logger.debug("the store's failure in full", exc_info=exc)
            return session, error_responses.STORE_UNAVAILABLE
        minted = self._new_session(session.owner)
        # The other headers hold for the new session too.
        minted.idempotency_key = session.idempotency_key
        minted.history_source = session.history_source
        return minted, error_responses.UNKNOWN_ID if options.unknown_ids == "reject" else None

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

    def _new_session(self, owner: str | None) -> HermesSession:
        return HermesSession(self._store, self._new_id(), owner=owner, is_new=True)

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


def find_fields(headers: RawHeaders, wanted: HeaderNames) -> dict[bytes, list[bytes]]:
    """Return every value of the wanted fields that is not blank, trimmed, in order, by its field.

    Names are compared without regard to case: that they arrive in lower case is only a "should"
    of the ASGI specification.
    """
    names, lengths = wanted.names, wanted.lengths
    found: dict[bytes, list[bytes]] = {}
    for key, value in headers:
        # Most names have another length than any that is wanted.
        if len(key) in lengths and (name := key.lower()) in names and (text := value.strip(OWS)):
            found.setdefault(name, []).append(text)
    return found


async def ask_owner(hook: OwnerHook, connection: HTTPConnection) -> str | None:
    """Return the connection's owner, or None; None also for a name that cannot be stored."""
    # ``headers["cookie"]`` is only the first of several fields; so is ``cookies``, in Starlette
    # before 0.49.3.
    connection.scope["headers"] = join_cookies(connection.scope["headers"])
    answer = hook(connection)
    owner = await answer if inspect.isawaitable(answer) else answer
    try:
        check_keys("-", owner or "")
    except InvalidKey as exc:
        logger.warning("the owner hook's answer is treated as None: %s", exc)
        return None
    return owner or None  # an empty name would own the sessions that have no owner
