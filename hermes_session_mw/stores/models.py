"""The limits of what is stored, and the values that stores return. All times are UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from hermes_session_mw.messages import Message, ends_with_answer

Reason = Literal["rewind", "replace", "compact"]
"""Why a message was archived."""

MAX_TURNS = 100_000
"""Turns that a conversation may have, unless a store is configured otherwise."""

MAX_KEY_LENGTH = {
    "owner": 255,
    "session_id": 256,
    "turn_id": 255,
    "key": 255,
    "answer_id": 255,
    "message_id": 255,
}
"""Characters that each key may have: all of them together fit into one index of any engine."""

PAGE = 50
"""Sessions on one page of a list, by default."""

MAX_PAGE = 500
"""The most sessions that one page may have."""

MAX_INTEGER = 2**63 - 1
"""The greatest number that every database stores."""

MAX_LEASE = 2_592_000
"""Seconds that a lease may last: thirty days."""

MAX_DIGEST = 64
"""Characters that the digest of an answer's request may have."""

MAX_TITLE = 500
"""Characters that a title may have."""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn as it was stored.

    Attributes:
        turn_id: the id that it was stored with.
        messages: all of them, in order, archived ones too.
        start: the index of its first message in the history; None if one of its messages is not in
            the history any more.
    """

    turn_id: str
    messages: list[Message]
    start: int | None

    @property
    def is_answered(self) -> bool:
        """Whether it ends with an answer: an assistant's message that calls no tool."""
        return ends_with_answer(self.messages)


@dataclass(frozen=True, slots=True)
class ArchivedMessage:
    """A message that was once part of the history.

    Attributes:
        message: as it was appended.
        turn_id: the id of the turn that it belongs to.
        reason: the operation that archived it.
        archived_at: when it was archived.
    """

    message: Message
    turn_id: str
    reason: Reason
    archived_at: datetime


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """The description of a session, as a list has it.

    Attributes:
        id: the session's id.
        title: set by ``rename``; None without one.
        length: the number of messages in its history.
        created_at: when its first turn was stored.
        updated_at: when its history last changed.
        parent_id: the session that it was forked from; None if it was not forked.
        owner: whose it is; ``""`` where sessions have no owners.
        expires_at: when it expires if its history does not change before; None for never, and where
            the store has no expiry.
        tags: set by ``label``, in their order.
        pinned: whether its user wants it at the top of the list.
        shelved: whether its user has put it away.
        metadata: the pairs in its metadata, which are texts.
        first_words: of the user, in one line, where they were asked for and there is no title; None
            else, and where nothing was said in words.
    """

    id: str
    title: str | None
    length: int
    created_at: datetime
    updated_at: datetime
    parent_id: str | None = None
    owner: str = ""
    expires_at: datetime | None = None
    tags: tuple[str, ...] = ()
    pinned: bool = False
    shelved: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    first_words: str | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page of a list of sessions.

    Attributes:
        sessions: the most recently changed ones first.
        cursor: asks for the next page; None if this is the last one.
    """

    sessions: list[SessionInfo]
    cursor: str | None


def rfc3339(time: datetime) -> str:
    """Return the time as a text, in UTC: RFC 3339, which is ISO 8601 too."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
