"""`MessageStore`, the protocol for single messages, ranges of a history and whole documents.

A chat stores turns, and needs none of this. What keeps a conversation for another framework does:
its protocol pops messages, reads pages from the oldest on, knows messages by ids of its own, keeps
a state beside them, or uses an id again after everything under it is gone. Every method, and every
argument that `LifecycleStore` does not have, is optional: a caller that needs one which the store
lacks raises `NotSupported`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from hermes_session_mw.messages import Message
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.models import PAGE, SessionPage


class AnyMetadata(Enum):
    """The type of `ANY`."""

    ANY = "any"


ANY: Final = AnyMetadata.ANY
"""Any metadata, or none: the value of `expected` where nothing is expected."""

ExpectedMetadata: TypeAlias = Message | Literal[AnyMetadata.ANY] | None
"""What the metadata has to be before it is set: None is none."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a history, and where it stands.

    Attributes:
        message: as it was appended.
        index: its place in the history, from 0.
        turn_id: the id of the turn that it belongs to; a turn's messages follow each other.
        message_id: the id that it was appended with; None without one.
        created_at: when it was appended, by the database's clock.
    """

    message: Message
    index: int
    turn_id: str
    message_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class HistoryRange:
    """A range of a history.

    Attributes:
        messages: oldest first.
        length: the number of messages of the whole history.
        metadata: the session's; None where none was set.
    """

    messages: list[StoredMessage]
    length: int
    metadata: Message | None


@runtime_checkable
class MessageStore(LifecycleStore, Protocol):
    """A `LifecycleStore` that works on single messages too; `SQLAlchemyStore` is one."""

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
        *,
        fence: int | None = None,
        replace_from: int | None = None,
        message_ids: Sequence[str | None] | None = None,
        metadata: Message | None = None,
        expected_metadata: ExpectedMetadata = ANY,
    ) -> int:
        """See `LifecycleStore.append`.

        ``message_ids`` are ids for the messages, one for each, or None for a message without one.
        A message whose id is one of the history's already, or of the messages that
        ``replace_from`` keeps, is not stored again, so that appends may overlap; nothing is
        compared. Where all of them are known, nothing is stored but the metadata. A message that
        leaves the history leaves its id free. A fork has the ids too, and an export has none.

        ``metadata`` is set in the same transaction, as by ``set_metadata``. A repeated ``turn_id``
        stores and expects nothing, and compares the messages only where none has an id.

        Raises:
            TypeError: the ids are a str.
            ValueError: the ids are not as many as the messages, or one is there twice.
            InvalidKey: an id cannot be stored; it has 1 to 255 characters.
            SessionConflict: also if the metadata is not ``expected_metadata``.
        """
        ...

    async def pop(
        self, session_id: str, count: int = 1, owner: str = "", *, fence: int | None = None
    ) -> list[Message]:
        """Archive the newest ``count`` messages, and return them, oldest first.

        There may be fewer. Two calls never return the same message. ``archived`` has them with the
        reason "rewind".

        Raises:
            ValueError: ``count`` is negative.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def rewind(
        self,
        session_id: str,
        length: int,
        owner: str = "",
        *,
        fence: int | None = None,
        expected_length: int | None = None,
    ) -> int:
        """See `LifecycleStore.rewind`.

        Raises:
            SessionConflict: the history has another length than ``expected_length``.
        """
        ...

    async def compact(
        self,
        session_id: str,
        replaced: Sequence[Message],
        summary: Sequence[Message],
        owner: str = "",
        *,
        skipped: int = 0,
        fence: int | None = None,
    ) -> int:
        """See `LifecycleStore.compact`; an empty ``summary`` archives the messages alone."""
        ...

    async def clear(self, session_id: str, owner: str = "", *, fence: int | None = None) -> bool:
        """Remove everything that is stored under the id, for good; return whether there was any.

        History, archive, turn ids, message ids, title and metadata are gone, and nothing is listed.
        Unlike after ``delete`` the id can be used again, at once. Keys that are bound to it stay
        bound, and a lease that is held stays held. The session's answers are removed, also one that
        runs, whose writer gets ``TurnLost``, and whose lease is free.

        Raises:
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def load_range(
        self,
        session_id: str,
        owner: str = "",
        start: int = 0,
        limit: int | None = None,
        *,
        since: datetime | None = None,
    ) -> HistoryRange:
        """Return the messages from the index ``start`` on, the oldest ``limit`` of them.

        A negative ``start`` counts from the end: -2 begins at the last but one, or at the first if
        there are fewer. With ``since``, which has to have a time zone, only messages that were
        appended then or later count, and ``start`` counts among those.

        Raises:
            ValueError: ``limit`` is negative, or ``since`` has no time zone.
        """
        ...

    async def find_message(
        self, message_id: str, owner: str = ""
    ) -> tuple[str, StoredMessage] | None:
        """Return the owner's message with this id, and the id of its session; None without one.

        Where several sessions have the id, it is the message of the one that comes first by id. An
        answer whose writer has died is not folded for it, as for ``list``.
        """
        ...

    async def list(
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None, *, prefix: str = ""
    ) -> SessionPage:
        """See `LifecycleStore.list`; only sessions whose id begins with ``prefix``."""
        ...

    async def list_all(
        self, limit: int = PAGE, cursor: str | None = None, *, prefix: str = ""
    ) -> SessionPage:
        """Return every owner's sessions, as ``list`` does; each says its ``owner``.

        Those that were changed at one time are in the order of their owners, and then of their ids.

        For the administrator, and for what serves all owners; never for a client.
        """
        ...

    async def set_metadata(
        self,
        session_id: str,
        metadata: Message,
        owner: str = "",
        *,
        expected: ExpectedMetadata = ANY,
    ) -> None:
        """See `LifecycleStore.set_metadata`.

        Raises:
            SessionConflict: the metadata is not ``expected``.
        """
        ...
