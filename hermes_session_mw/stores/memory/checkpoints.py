"""The checkpoints of a `MemoryStore`, which makes this when ``store.checkpoints`` is used.

They are a part of the session's record, so that whatever removes or moves it does so with them.
"""

import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anyio.lowlevel import checkpoint as yield_to_loop

from hermes_session_mw.exceptions import SessionConflict, SessionDeleted, SessionFull
from hermes_session_mw.messages import Message, decode_messages
from hermes_session_mw.stores.checkpoint_store import (
    Checkpoint,
    CheckpointWrite,
    StoredCheckpoint,
    check_checkpoint,
    check_checkpoint_keys,
    check_writes,
)
from hermes_session_mw.stores.memory.records import CheckpointRecords, Key, SessionRecord, appended
from hermes_session_mw.stores.models import PAGE
from hermes_session_mw.stores.validation import (
    check_keys,
    check_message_ids,
    check_page,
    encode_metadata,
    length_after_repeat,
)

_NONE = CheckpointRecords({}, {})


@dataclass(frozen=True, slots=True)
class MemoryCheckpoints:
    """A `CheckpointStore` in the store's memory; get it as ``store.checkpoints``.

    ``records`` returns an owner's sessions by id, and ``change`` replaces one session's record.
    """

    records: Callable[[str], Mapping[str, SessionRecord]]
    change: Callable[..., Awaitable[Any]]
    encode: Callable[[Sequence[Message]], list[str]]
    max_turns: int

    async def put(
        self,
        session_id: str,
        checkpoint: Checkpoint,
        owner: str = "",
        *,
        messages: Sequence[Message] = (),
        message_ids: Sequence[str | None] | None = None,
        turn_id: str | None = None,
        fence: int | None = None,
    ) -> None:
        """See `CheckpointStore.put`."""
        check_keys(session_id, owner, turn_id)
        check_checkpoint(session_id, owner, checkpoint)
        check_message_ids(message_ids, len(messages))
        metadata = encode_metadata(checkpoint.metadata, sys.maxsize)
        bodies = self.encode(messages) if messages else []

        def change(record: SessionRecord) -> tuple[SessionRecord, None]:
            grown = self._appended(record, bodies, turn_id, message_ids)
            there = record.checkpoints or _NONE
            key = (checkpoint.namespace, checkpoint.checkpoint_id)
            put = replace(there, checkpoints={**there.checkpoints, key: (checkpoint, metadata)})
            return replace(grown, checkpoints=put, updated_at=time.time()), None

        await self.change(session_id, owner, change, fence, folds=bool(bodies))

    def _appended(
        self,
        record: SessionRecord,
        bodies: Sequence[str],
        turn_id: str | None,
        message_ids: Sequence[str | None] | None,
    ) -> SessionRecord:
        if not bodies:
            return record
        stored = [] if turn_id is None else record.turn(turn_id)
        if stored:
            has_ids = any(each is not None for each in message_ids or ())
            compared = None if has_ids else bodies
            length_after_repeat(stored, compared, record.first, record.end)
            return record
        grown = appended(record, bodies, turn_id, None, message_ids)
        if grown is not record and record.turns >= self.max_turns:
            raise SessionFull(self.max_turns)
        return grown

    async def put_writes(
        self,
        session_id: str,
        checkpoint_id: str,
        writes: Sequence[CheckpointWrite],
        owner: str = "",
        *,
        namespace: str = "",
        fence: int | None = None,
    ) -> None:
        """See `CheckpointStore.put_writes`."""
        check_checkpoint_keys(session_id, owner, checkpoint_id, namespace)
        check_writes(writes)

        def change(record: SessionRecord) -> tuple[SessionRecord, None]:
            there = record.checkpoints or _NONE
            of_checkpoint = {**there.writes.get((namespace, checkpoint_id), {})}
            for each in writes:
                if each.index < 0:
                    of_checkpoint[each.task_id, each.index] = each
                else:
                    of_checkpoint.setdefault((each.task_id, each.index), each)
            written = {**there.writes, (namespace, checkpoint_id): of_checkpoint}
            put = replace(there, writes=written)
            return replace(record, checkpoints=put, updated_at=time.time()), None

        await self.change(session_id, owner, change, fence, folds=False)

    async def find(
        self,
        session_id: str,
        checkpoint_id: str | None = None,
        owner: str = "",
        *,
        namespace: str = "",
    ) -> StoredCheckpoint | None:
        """See `CheckpointStore.find`."""
        check_checkpoint_keys(session_id, owner, checkpoint_id, namespace)
        found = await self.list(
            owner, session_id, namespace=namespace, checkpoint_id=checkpoint_id, limit=1
        )
        return found[0] if found else None

    async def list(
        self,
        owner: str = "",
        session_id: str | None = None,
        *,
        namespace: str | None = None,
        checkpoint_id: str | None = None,
        before: str | None = None,
        limit: int = PAGE,
        after: StoredCheckpoint | None = None,
    ) -> Sequence[StoredCheckpoint]:
        """See `CheckpointStore.list`."""
        check_checkpoint_keys(session_id or "-", owner, checkpoint_id, namespace)
        check_checkpoint_keys("-", owner, before)
        check_page(limit)
        await yield_to_loop()
        records = self.records(owner)
        chosen = {session_id: records.get(session_id)} if session_id is not None else records
        found = [
            each
            for id_, record in chosen.items()
            if record is not None and record.checkpoints is not None
            for each in _stored(id_, record.checkpoints)
            if namespace in (None, each.checkpoint.namespace)
            and checkpoint_id in (None, each.checkpoint.checkpoint_id)
            and (before is None or each.checkpoint.checkpoint_id < before)
            and (after is None or _order(each) < _order(after))
        ]
        return sorted(found, key=_order, reverse=True)[:limit]

    async def heads(self, session_id: str, owner: str = "") -> dict[str, str]:
        """See `CheckpointStore.heads`."""
        check_keys(session_id, owner)
        await yield_to_loop()
        record = self.records(owner).get(session_id)
        there = (record and record.checkpoints) or _NONE
        return dict(sorted(there.checkpoints))

    async def remove(
        self,
        session_id: str,
        owner: str = "",
        *,
        namespace: str | None = None,
        before: str | None = None,
    ) -> int:
        """See `CheckpointStore.remove`."""
        check_checkpoint_keys(session_id, owner, before, namespace)

        def is_kept(key: Key) -> bool:
            return namespace not in (None, key[0]) or not (before is None or key[1] < before)

        return await self._keep(session_id, owner, is_kept)

    async def remove_runs(self, run_ids: Sequence[str], owner: str = "") -> int:
        """See `CheckpointStore.remove_runs`."""
        check_keys("-", owner)
        count = 0
        for session_id, record in self.records(owner).items():
            there = record.checkpoints or _NONE
            gone = {key for key, (each, _) in there.checkpoints.items() if each.run_id in run_ids}
            if gone:
                count += await self._keep(session_id, owner, lambda key, gone=gone: key not in gone)  # type: ignore[misc]  # a default argument
        return count

    async def copy(self, session_id: str, new_id: str, owner: str = "") -> int:
        """See `CheckpointStore.copy`."""
        check_keys(session_id, owner)
        check_keys(new_id, owner)
        await yield_to_loop()
        source = self.records(owner).get(session_id)
        if source is None or source.checkpoints is None:
            return 0
        copied = source.checkpoints

        def change(record: SessionRecord) -> tuple[SessionRecord, None]:
            there = (record.checkpoints or _NONE).checkpoints
            if there:
                raise SessionConflict(0, len(there))
            return replace(record, checkpoints=copied, updated_at=time.time()), None

        await self.change(new_id, owner, change, folds=False)
        return len(copied.checkpoints)

    async def _keep(self, session_id: str, owner: str, is_kept: Callable[[Key], bool]) -> int:
        """Remove what is not kept, and return how many checkpoints that is."""

        def change(record: SessionRecord) -> tuple[SessionRecord, int]:
            if record.checkpoints is None:
                return record, 0
            there = record.checkpoints
            states = {key: each for key, each in there.checkpoints.items() if is_kept(key)}
            writes = {key: each for key, each in there.writes.items() if is_kept(key)}
            left = CheckpointRecords(states, writes) if states or writes else None
            return replace(record, checkpoints=left), len(there.checkpoints) - len(states)

        try:
            count: int = await self.change(session_id, owner, change, folds=False)
        except SessionDeleted:
            return 0
        return count


def _stored(session_id: str, there: CheckpointRecords) -> Iterator[StoredCheckpoint]:
    for key, (checkpoint, metadata) in there.checkpoints.items():
        writes = sorted(
            there.writes.get(key, {}).values(),
            key=lambda each: (each.task_path, each.task_id, each.index),
        )
        (described,) = decode_messages([metadata])
        yield StoredCheckpoint(session_id, replace(checkpoint, metadata=described), writes)


def _order(stored: StoredCheckpoint) -> tuple[str, str, str]:
    checkpoint = stored.checkpoint
    return checkpoint.checkpoint_id, stored.session_id, checkpoint.namespace
