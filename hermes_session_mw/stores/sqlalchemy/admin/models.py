"""What a store tells its operator, who sees the sessions of all owners. All times are UTC.

Rules of this file: pure values. Nothing that answers requests may import it: a client is never told
of another owner's session.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hermes_session_mw.stores.models import SessionInfo

Access = Literal["read", "write", "create"]
"""What an operator is about to do to a store: ``create`` may make its tables, and its file."""


@dataclass(frozen=True, slots=True)
class OwnedSession:
    """A session, and whose it is.

    Attributes:
        info: what a list tells of it.
        owner: whose it is, "" for nobody's; None where the store does not tell.
        turns: how many turns it has had; None where the store does not count them.
        archived: how many messages were in its history once, and are kept; None likewise.
    """

    info: SessionInfo
    owner: str | None
    turns: int | None
    archived: int | None


@dataclass(frozen=True, slots=True)
class OwnedPage:
    """Part of a list of owned sessions; ``cursor`` is as for `SessionPage`."""

    sessions: list[OwnedSession]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What is in a store; None for what it does not tell.

    Attributes:
        sessions, messages: how many there are; messages that are in a history.
        turns, archived: how many turns were stored, and messages archived.
        owners: how many owners have a session; "" is none.
        ownerless: how many sessions have no owner.
        deleted: how many ids of deleted sessions are kept, so that they are not used again.
        oldest: when the first of the sessions was begun.
        newest: when one of them was changed last.
        bytes: the size on disk, by table, or as ``database`` where tables have none of their own.
    """

    sessions: int
    messages: int
    turns: int | None = None
    archived: int | None = None
    owners: int | None = None
    ownerless: int | None = None
    deleted: int | None = None
    oldest: datetime | None = None
    newest: datetime | None = None
    bytes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that should not be so; what it says holds nothing of a message.

    Attributes:
        what: the problem.
        session_id, owner: the session that has it; None where it is not one session's.
    """

    what: str
    session_id: str | None = None
    owner: str | None = None
