"""What one request knows of its conversation, and reading it."""

import logging
from typing import Literal, Protocol

from .access import StoreAccess
from .exceptions import (
    HistoryNotLoaded,
    OwnerRequired,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
)
from .logging import fingerprint, logger
from .messages import Message
from .stores.base import History, Store

HistorySource = Literal["session", "request"]
"""Whose history counts: the stored one, or the one that the client sends."""


class HeldTurn(Protocol):
    """A turn that a request is in.

    ``fence`` is its number; ``is_in_block`` tells whether it is inside of its ``async with`` block,
    and ``is_left`` whether it has outlasted that.
    """

    fence: int
    is_in_block: bool
    is_left: bool

    async def take(self) -> None:
        """Take it again, under the id that the session has now."""
        ...

    async def release(self) -> None:
        """Give it back."""
        ...


class StoredConversation:
    """The part of a `HermesSession` that knows and reads.

    Attributes:
        owner: who may see the session; ``""`` where the middleware has no ``owner`` hook, None
            where the hook answered None.
        is_new: the id was minted for this request, so nothing can be stored under it yet.
        degraded: the store failed and the history is empty for that reason alone.
        is_told: the response, or the handshake, has begun, and the client knows the id.
        has_open: whether there is something for the middleware to end after the request.
        unended: the middleware's sessions of which that is so; None where it serves none of them.
        held: the turn that the request is in, None outside of any.
        keeps_turns: whether the answer gives a turn back that was left before: in an HTTP request
            that the middleware serves.
        key: the client's own name for the conversation, where it sent one and it is looked for.
        idempotency_key: the request's ``Idempotency-Key``, which becomes its first turn's id.
        history_source: what the client says in ``X-Hermes-History-Source``.
    """

    __slots__ = (
        "_access",
        "_history",
        "_id",
        "_key_is_used",
        "degraded",
        "has_open",
        "held",
        "history_source",
        "idempotency_key",
        "is_new",
        "is_told",
        "keeps_turns",
        "key",
        "owner",
        "unended",
    )

    def __init__(
        self,
        store: Store | StoreAccess,
        session_id: str,
        *,
        owner: str | None = "",
        is_new: bool = False,
        key: str | None = None,
        idempotency_key: str | None = None,
        history_source: HistorySource = "session",
    ) -> None:
        """Keep what a request needs to know of its session; nothing is read yet.

        The middleware makes it, and a test may.

        Args:
            store: any `Store`.
            session_id: 1 to 256 characters.
            owner: as the attribute.
            is_new: as the attribute; the history is then empty without a ``load()``.
            key: as the attribute.
            idempotency_key: as the attribute.
            history_source: as the attribute.
        """
        self._id = session_id
        self.owner: str | None = owner
        self.is_new: bool = is_new
        self.key: str | None = key
        self.idempotency_key: str | None = idempotency_key
        self.history_source: HistorySource = history_source
        self.degraded: bool = False
        self.is_told: bool = False
        self.has_open: bool = False
        self.unended: set[StoredConversation] | None = None
        self._access = store if isinstance(store, StoreAccess) else StoreAccess(store)
        self._history: History | None = None
        self.held: HeldTurn | None = None
        self.keeps_turns: bool = False
        self._key_is_used = False

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
    def was_found(self) -> bool | None:
        """Whether ``load()`` found anything stored under the id; None where nobody has looked."""
        known = None if self.degraded else self._history
        return None if known is None else known.exists

    def open_up(self) -> None:
        """Have the middleware end this session after the request, before it closes the store."""
        self.has_open = True
        if self.unended is not None:
            self.unended.add(self)

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

    def __repr__(self) -> str:
        """Say the state, and name the session without giving its id away."""
        is_loaded = self.is_new or self._history is not None
        state = f"{self.length} messages" if is_loaded else "not loaded"
        degraded = ", degraded" if self.degraded else ""
        return f"<{type(self).__name__} {fingerprint(self.id)} ({state}{degraded})>"

    def _loaded(self) -> History:
        if self._history is None:
            if not self.is_new:
                raise HistoryNotLoaded
            self._history = History([], 0, exists=False)
        return self._history

    async def _read(self, limit: int | None) -> History | None:
        """Return what is stored; None where the store failed and the session is degraded."""
        owner = self.known_owner()
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

    def known_owner(self) -> str:
        """Return whose the session is.

        Raises:
            OwnerRequired: the middleware's ``owner`` hook answered None.
        """
        if self.owner is None:
            raise OwnerRequired
        return self.owner
