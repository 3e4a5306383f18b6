"""The records that `MemoryStore` keeps, and the turns that are added to them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.stores.expiry import Setting
from hermes_session_mw.stores.labels import Labels
from hermes_session_mw.stores.models import Reason
from hermes_session_mw.stores.validation import check_replaced

if TYPE_CHECKING:
    from hermes_session_mw.stores.checkpoint_store import Checkpoint, CheckpointWrite

Key = tuple[str, str]
"""An owner, and the session's id or a client's key."""

NO_LABELS = Labels()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Row:
    """A message of the history."""

    turn_id: str
    body: str
    at: datetime
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class ArchivedRow:
    """A message that was in the history under the number ``seq``."""

    seq: int
    row: Row
    reason: Reason
    at: datetime


@dataclass(frozen=True, slots=True)
class CheckpointRecords:
    """The checkpoints of a session, by namespace and id, and the writes of each by task and number.

    The metadata of each is kept as a JSON text.
    """

    checkpoints: Mapping[Key, "tuple[Checkpoint, str]"]
    writes: Mapping[Key, "Mapping[tuple[str, int], CheckpointWrite]"]


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session; its messages are numbered from ``first``, which a compaction raises above 0."""

    rows: list[Row] = field(default_factory=list)
    first: int = 0
    turns: int = 0
    archive: list[ArchivedRow] = field(default_factory=list)
    title: str | None = None
    parent_id: str | None = None
    metadata: str | None = None
    """A JSON text."""
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    fence: int = 0
    leased_until: float = float("-inf")
    deleted: bool = False
    answer_id: str | None = None
    """The open answer's id."""
    answer_fence: int = 0
    """The fence of the open answer's lease."""
    checkpoints: CheckpointRecords | None = None
    """None where there are none."""
    expires_after: Setting | None = None
    """Its own setting; None without one."""
    labels: Labels = NO_LABELS
    """Without pairs, which the metadata has."""

    @property
    def is_answering(self) -> bool:
        """Whether an answer is open, and has its lease."""
        has_lease = self.answer_fence == self.fence and self.leased_until > time.monotonic()
        return self.answer_id is not None and has_lease

    @property
    def exists(self) -> bool:
        """Whether a turn was ever stored; a lease alone makes a record too."""
        return self.turns > 0

    @property
    def is_used(self) -> bool:
        """Whether a turn, metadata or a checkpoint is stored."""
        return self.exists or self.metadata is not None or self.checkpoints is not None

    @property
    def end(self) -> int:
        """The number that the next message gets."""
        return self.first + len(self.rows)

    def turn(self, turn_id: str) -> list[tuple[int, str]]:
        """Return the numbers and JSON texts of a turn's messages, archived ones too."""
        rows = [*enumerate(self.rows, self.first), *((old.seq, old.row) for old in self.archive)]
        return sorted((number, row.body) for number, row in rows if row.turn_id == turn_id)

    def archived(self, start: int, stop: int, reason: Reason) -> list[ArchivedRow]:
        """Return the archive with ``rows[start:stop]`` added."""
        now = datetime.now(UTC)
        rows = enumerate(self.rows[start:stop], self.first + start)
        return [*self.archive, *(ArchivedRow(seq, row, reason, now) for seq, row in rows)]


def appended(
    record: SessionRecord,
    bodies: Sequence[str],
    turn_id: str | None,
    replace_from: int | None,
    message_ids: Sequence[str | None] | None = None,
) -> SessionRecord:
    """Return the session with a turn added, after its first ``replace_from`` messages if given.

    Messages whose id is one of those of the messages before are left out; where none remains, and
    none is replaced, that is the session as it was.

    Raises:
        SessionConflict: there are fewer messages.
    """
    before = len(record.rows)
    keep = before if replace_from is None else replace_from
    check_replaced(keep, before)
    kept = record.rows[:keep]
    added = _unknown_rows(kept, bodies, turn_id or mint_turn_id(), message_ids)
    if keep == before and not added:
        return record
    return replace(
        record,
        rows=[*kept, *added],
        archive=record.archived(keep, before, "replace") if keep < before else record.archive,
        turns=record.turns + bool(added),
        updated_at=time.time(),
    )


def _unknown_rows(
    kept: Sequence[Row],
    bodies: Sequence[str],
    turn_id: str,
    message_ids: Sequence[str | None] | None,
) -> list[Row]:
    now = datetime.now(UTC)
    if message_ids is None:
        return [Row(turn_id, body, now) for body in bodies]
    known = {row.message_id for row in kept} - {None}
    return [
        Row(turn_id, body, now, message_id)
        for body, message_id in zip(bodies, message_ids, strict=True)
        if message_id not in known
    ]


def titled(
    grown: SessionRecord, before: SessionRecord, title: str | None, words: str
) -> SessionRecord:
    """Return a session with a title, if it has none: the one given, or a new one's first words."""
    new = title if title is not None or before.turns else words or None
    return grown if new is None or grown.title is not None else replace(grown, title=new)
