"""The values that `AdminStore` returns, about the sessions of all owners. All times are UTC.

No module that answers requests may import them: another owner's session stays secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from hermes_session_mw.stores.models import SessionInfo

if TYPE_CHECKING:
    from hermes_session_mw.stores.search import SearchHit

Access = Literal["read", "write", "create"]
"""The access to a store: only ``create`` creates its tables and its file."""


@dataclass(frozen=True, slots=True)
class OwnedSession:
    """A session with its owner.

    Attributes:
        info: its description.
        owner: its owner, "" for none; None if the store does not know owners.
        turns: how many turns were stored in it; None if the store does not count them.
        archived: how many of its messages are archived; None likewise.
    """

    info: SessionInfo
    owner: str | None
    turns: int | None
    archived: int | None


@dataclass(frozen=True, slots=True)
class OwnedPage:
    """One page of a list of owned sessions; ``cursor`` is as for `SessionPage`."""

    sessions: list[OwnedSession]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class OwnedHit:
    """A message that was found, and the owner of its session, "" for none."""

    hit: "SearchHit"
    owner: str


@dataclass(frozen=True, slots=True)
class OwnedHits:
    """One page of what was found; ``cursor`` is as for `SearchPage`."""

    hits: list[OwnedHit]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers of a store's contents; None for a number that the store does not count.

    Attributes:
        sessions, messages: how many there are; messages that are in a history.
        turns, archived: how many turns were stored, and messages archived.
        owners: how many owners have a session; "" does not count.
        ownerless: how many sessions have no owner.
        deleted: how many ids of deleted sessions are kept, so that they cannot be used again.
        oldest: when the oldest session was created.
        newest: when a session last changed.
        bytes: the size on disk, by table, or as ``database`` where tables have none of their own.
        open_answers, ended_answers: how many answers run, or have lost their writer, and how many
            have ended and are not forgotten yet.
        answer_events: how many events these answers have.
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
    open_answers: int | None = None
    ended_answers: int | None = None
    answer_events: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Damage in a store; its text never quotes a message.

    Attributes:
        what: the problem.
        session_id, owner: the damaged session; None if the problem concerns no single session.
    """

    what: str
    session_id: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """What a change of keys, or of what they encrypt, has done.

    Attributes:
        done: how many data keys were wrapped anew, or rows were encrypted or decrypted.
        problems: the sessions that were left as they are, and why.
    """

    done: int = 0
    problems: tuple[Problem, ...] = ()

    def with_more(self, done: int, unreadable: Sequence[tuple[str, str, str]]) -> "KeyCounts":
        """Return the sum with another portion's: owners, ids and problems."""
        more = [Problem(what, session_id, owner) for owner, session_id, what in unreadable]
        return KeyCounts(self.done + done, (*self.problems, *more))
