"""What stores tell of sessions and turns, and how much of it at once. All times are UTC."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hermes_session_mw.messages import Message

Reason = Literal["rewind", "replace", "compact"]
"""Why a message was archived."""

MAX_TURNS = 100_000
"""Turns that a conversation may have, unless a store is configured otherwise."""

MAX_KEY_LENGTH = {"owner": 255, "session_id": 256, "turn_id": 255, "key": 255}
"""Characters that each key may have: all of them together fit into one index of any engine."""

PAGE = 50
"""Sessions on one page of a list, unless more or fewer are asked for."""

MAX_PAGE = 500
"""The most that may be asked for."""

MAX_LEASE = 2_592_000
"""Seconds that a turn may be taken for: thirty days."""

MAX_TITLE = 500
"""Characters that a title may have."""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn as it was stored.

    Attributes:
        turn_id: what it was stored under.
        messages: all of them, in order, archived ones too.
        start: the place of its first message in the history (0 for the first); None where not all
            of its messages are in the history any more.
    """

    turn_id: str
    messages: list[Message]
    start: int | None


@dataclass(frozen=True, slots=True)
class ArchivedMessage:
    """A message that was in the history once.

    Attributes:
        message: as it was appended.
        turn_id: the turn's that it belonged to.
        reason: what took it out of the history.
        archived_at: when.
    """

    message: Message
    turn_id: str
    reason: Reason
    archived_at: datetime


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a list tells of a session.

    Attributes:
        id: the session's id.
        title: what ``rename`` gave it; None where nothing did.
        length: the number of messages in its history.
        created_at: when its first turn was stored.
        updated_at: when its history was changed last.
        parent_id: the session that it was forked from; None where it was not.
    """

    id: str
    title: str | None
    length: int
    created_at: datetime
    updated_at: datetime
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Part of a list of sessions.

    Attributes:
        sessions: the ones whose history was changed last come first.
        cursor: what to ask for the next page with; None where this is the last.
    """

    sessions: list[SessionInfo]
    cursor: str | None
