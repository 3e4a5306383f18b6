"""The session that a request carries."""

import logging
import sys
from collections.abc import Sequence
from functools import partial

from starlette.requests import HTTPConnection

from .access import StoreAccess
from .exceptions import (
    HistoryNotLoaded,
    OwnerRequired,
    SessionMissing,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
)
from .logging import fingerprint, logger
from .messages import Message, decode_messages, encode_messages
from .recording import Recording
from .stores.base import History, Store

STATE_KEY = "hermes_session"
"""Where the session stands in the ASGI scope's ``state``."""


class HermesSession:
    """One conversation, as one request sees it.

    Attributes:
        owner: who may see the session; ``""`` where the middleware has no ``owner`` hook, None
            where the hook answered None.
        is_new: the id was minted for this request, so nothing can be stored under it yet.
        degraded: the store failed and the history is empty for that reason alone.
        has_recorded: whether ``record()`` was called.
    """

    __slots__ = (
        "_access",
        "_history",
        "_id",
        "_recordings",
        "degraded",
        "has_recorded",
        "is_new",
        "owner",
    )

    def __init__(
        self,
        store: Store | StoreAccess,
        session_id: str,
        *,
        owner: str | None = "",
        is_new: bool = False,
    ) -> None:
        """Keep what a request needs to know of its session; nothing is read yet."""
        self._id = session_id
        self.owner = owner
        self.is_new = is_new
        self.degraded = False
        self._access = store if isinstance(store, StoreAccess) else StoreAccess(store)
        self._history: History | None = None
        self.has_recorded = False
        self._recordings: list[Recording]  # made when it is needed

    @property
    def id(self) -> str:
        """The session's id, as it is stamped on the response."""
        return self._id

    @property
    def history(self) -> list[Message]:
        """The conversation so far, oldest message first, each exactly as it was appended.

        The list is the session's own: give a model ``[*session.history, user]``, and leave it.
        It is what ``load()`` found, and after it what this object appended; a turn that another
        request stored meanwhile is seen by the next ``load()``.

        Raises:
            HistoryNotLoaded: autoload is off and ``load()`` was not awaited yet.
        """
        return self._loaded().messages

    @property
    def length(self) -> int:
        """The number of messages stored as far as this object has seen them.

        ``history_limit`` may make it more than are loaded.

        Give it to ``append(expected_length=...)``.

        Raises:
            HistoryNotLoaded: as for ``history``.
        """
        return self._loaded().length

    async def load(self) -> list[Message]:
        """Read the conversation from the store, and return it as ``history``.

        Raises:
            OwnerRequired: the middleware's ``owner`` hook answered None.
            StoreError: the store failed or did not answer in time, and the middleware's
                ``on_store_error`` is ``"unavailable"``.
        """
        self._history = await self._read(self._access.limit) or History([], 0, exists=False)
        return self.history

    @property
    def is_deleted(self) -> bool:
        """Whether ``load()`` found that the session was deleted: nothing can be appended to it."""
        return self._history is not None and self._history.deleted

    async def is_stored(self) -> bool:
        """Tell whether anything is stored under the id, asking the store only if need be.

        True also where the store failed and ``on_store_error`` is ``"empty"``: then nobody knows.

        Raises:
            OwnerRequired, StoreError: as for ``load()``.
        """
        known = self._loaded() if self.is_new else self._history
        history = known or await self._read(limit=0)
        return self.degraded or (history is not None and history.exists)

    async def append(
        self, *messages: Message, turn_id: str | None = None, expected_length: int | None = None
    ) -> int:
        """Store ``messages`` at the conversation's end, all or none, and return its new length.

        Once it is under way it runs to its end even where the request is cancelled, so that a
        client that leaves cannot tear the turn.

        Args:
            messages: JSON objects, in order.
            turn_id: 1 to 255 characters that make the append idempotent: repeated with the same
                messages, it stores nothing and returns the length that the first one returned.
            expected_length: store only if the conversation has just that many messages.

        Raises:
            InvalidMessage: a message cannot be stored as it is.
            InvalidKey: the turn id cannot be stored.
            SessionConflict: the conversation has another length than ``expected_length``.
            TurnConflict: the turn id is taken by other messages.
            SessionDeleted: the conversation was deleted, also where that was after ``load()``.
            SessionFull: the conversation has as many turns as the store allows.
            OwnerRequired: the middleware's ``owner`` hook answered None.
            StoreError: the store failed; ``StoreTimeout``: it may still have happened.
        """
        taken = _as_they_are(messages)
        owner = self._known_owner()
        length = await self._access.append(self.id, taken, owner, turn_id, expected_length)
        self._remember(taken, length)
        return length

    def record(
        self, *question: Message, turn_id: str | None = None, expected_length: int | None = None
    ) -> Recording:
        """Begin a turn whose answer streams: give it what was asked, and write the answer to it.

        ``async with session.record(user) as answer:`` stores the turn when the block ends, complete
        or, where the client has left or the answer failed, marked as incomplete; see `Recording`.
        Called before the response begins, it keeps the question of a client that leaves at once.
        The arguments are as for ``append``.

        Raises:
            InvalidMessage, OwnerRequired: at once, before anything is answered.
        """
        self._known_owner()
        append = partial(self.append, turn_id=turn_id, expected_length=expected_length)
        recording = Recording(append, _as_they_are(question) if question else [])
        if not self.has_recorded:
            self.has_recorded, self._recordings = True, []
        self._recordings.append(recording)
        return recording

    async def end_recordings(self) -> None:
        """Store what is still being recorded as incomplete; the middleware's last act."""
        for recording in self._recordings if self.has_recorded else ():
            await recording.break_off()

    def __repr__(self) -> str:
        """Say the state, and name the session without giving its id away."""
        is_loaded = self.is_new or self._history is not None
        state = f"{self.length} messages" if is_loaded else "not loaded"
        degraded = ", degraded" if self.degraded else ""
        return f"<HermesSession {fingerprint(self.id)} ({state}{degraded})>"

    def _loaded(self) -> History:
        if self._history is None:
            if not self.is_new:
                raise HistoryNotLoaded
            self._history = History([], 0, exists=False)
        return self._history

    async def _read(self, limit: int | None) -> History | None:
        """Return what is stored; None where the store failed and the session is degraded."""
        owner = self._known_owner()
        try:
            history = await self._access.load(self.id, owner, limit)
        except StoreError as error:
            if not self._access.degrade:
                raise
            self._log_degraded(error)
            self.degraded = True
            return None
        self.degraded = False
        return history

    def _log_degraded(self, error: StoreError) -> None:
        for_a_person = isinstance(error, StoreMisconfigured | StoreCorrupt)
        logger.log(
            logging.ERROR if for_a_person else logging.WARNING,
            "session %s goes on with an empty history: %s",
            fingerprint(self.id),
            error,
        )
        logger.debug("the store's failure in full", exc_info=error)

    def _known_owner(self) -> str:
        if self.owner is None:
            raise OwnerRequired
        return self.owner

    def _remember(self, messages: list[Message], length: int) -> None:
        known = self._loaded() if self.is_new else self._history
        if known is None or length <= known.length:  # not loaded, or a turn that was there already
            return
        # Where others stored meanwhile, the length stays what this object has seen, so that an
        # append on the condition of it finds out.
        seen = known.length + len(messages)
        self._history = History([*known.messages, *messages], seen, exists=True)


def _as_they_are(messages: Sequence[Message]) -> list[Message]:
    """Return copies: what the caller does to the messages while they are stored changes nothing."""
    return decode_messages(encode_messages(messages, sys.maxsize, sys.maxsize))


def get_session(connection: HTTPConnection) -> HermesSession:
    """Return the session of a Starlette request or websocket; a FastAPI dependency as it is.

    Raises:
        SessionMissing: no middleware has put one there.
    """
    session = getattr(getattr(connection, "state", None), STATE_KEY, None)
    if not isinstance(session, HermesSession):
        raise SessionMissing
    return session
