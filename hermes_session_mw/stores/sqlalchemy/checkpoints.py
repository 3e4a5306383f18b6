"""The checkpoints of a `SQLAlchemyStore`, which makes this when ``store.checkpoints`` is used.

Each operation checks its arguments, and is one function of `statements`, as the store's are. The
first one makes the tables.
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.checkpoint_store import (
    Checkpoint,
    CheckpointWrite,
    StoredCheckpoint,
    check_checkpoint,
    check_checkpoint_keys,
    check_writes,
)
from hermes_session_mw.stores.message_store import ANY
from hermes_session_mw.stores.models import PAGE
from hermes_session_mw.stores.sqlalchemy.folding import AnswerFolding
from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import (
    CheckpointTablesUnknown,
    make_tables,
    place_of,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import Target
from hermes_session_mw.stores.sqlalchemy.statements import checkpoints
from hermes_session_mw.stores.sqlalchemy.statements.append_with_ids import (
    TurnDetails,
    append_inside,
)
from hermes_session_mw.stores.sqlalchemy.statements.checkpoints import Choice
from hermes_session_mw.stores.validation import (
    check_keys,
    check_message_ids,
    check_page,
    encode_metadata,
)

T = TypeVar("T")


class SQLAlchemyCheckpoints(AnswerFolding):
    """A `CheckpointStore` in the store's database; get it as ``store.checkpoints``."""

    def __init__(
        self,
        retrying: RetryingExecutor,
        *,
        creates: bool,
        encode: Callable[[Sequence[Message]], list[str]],
        max_message_bytes: int,
        max_turns: int,
    ) -> None:
        self._retrying = retrying
        self._creates = creates
        self._encode = encode
        self.max_message_bytes = max_message_bytes
        self._max_turns = max_turns

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
        """See `CheckpointStore.put`; one short transaction."""
        check_keys(session_id, owner, turn_id)
        check_checkpoint(session_id, owner, checkpoint)
        check_message_ids(message_ids, len(messages))
        metadata = encode_metadata(checkpoint.metadata, sys.maxsize)
        bodies = self._encode(messages) if messages else []
        turn = turn_id or (mint_turn_id() if bodies else "")
        details = TurnDetails(message_ids or [None] * len(bodies), None, ANY, None)
        attempts = itertools.count()

        def append(database: Database, target: Target, *, looks: bool) -> int:
            return append_inside(
                database,
                target,
                bodies,
                turn,
                details=details,
                may_be_stored=next(attempts) > 0 or turn_id is not None,
                max_turns=self._max_turns,
                fence=fence,
                looks=looks,
            )

        put = partial(
            checkpoints.put,
            session_id=session_id,
            owner=owner,
            checkpoint=checkpoint,
            metadata=metadata,
            fence=fence,
            append=append if bodies else None,
        )
        await self._run(self._folding(put), writes=True, may_join=True)

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
        """See `CheckpointStore.put_writes`; one short transaction."""
        check_checkpoint_keys(session_id, owner, checkpoint_id, namespace)
        check_writes(writes)
        work = partial(
            checkpoints.put_writes,
            session_id=session_id,
            owner=owner,
            place=place_of(namespace),
            checkpoint_id=checkpoint_id,
            writes=writes,
            fence=fence,
        )
        await self._run(work, writes=True, may_join=True)

    async def find(
        self,
        session_id: str,
        checkpoint_id: str | None = None,
        owner: str = "",
        *,
        namespace: str = "",
    ) -> StoredCheckpoint | None:
        """See `CheckpointStore.find`; one round trip."""
        check_checkpoint_keys(session_id, owner, checkpoint_id, namespace)
        return await self._run(
            lambda database: checkpoints.find(database, session_id, owner, namespace, checkpoint_id)
        )

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
        """See `CheckpointStore.list`; two round trips."""
        check_checkpoint_keys(session_id or "-", owner, checkpoint_id, namespace)
        check_checkpoint_keys("-", owner, before)
        check_page(limit)
        choice = Choice(session_id, namespace, checkpoint_id, before)
        return await self._run(
            lambda database: checkpoints.list_checkpoints(database, owner, choice, limit, after)
        )

    async def heads(self, session_id: str, owner: str = "") -> dict[str, str]:
        """See `CheckpointStore.heads`."""
        check_keys(session_id, owner)
        return await self._run(lambda database: checkpoints.heads(database, session_id, owner))

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
        choice = Choice(session_id, namespace, None, before)
        return await self._run(
            lambda database: checkpoints.remove(database, owner, choice), writes=True
        )

    async def remove_runs(self, run_ids: Sequence[str], owner: str = "") -> int:
        """See `CheckpointStore.remove_runs`."""
        check_keys("-", owner)
        return await self._run(
            lambda database: checkpoints.remove_runs(database, owner, run_ids), writes=True
        )

    async def copy(self, session_id: str, new_id: str, owner: str = "") -> int:
        """See `CheckpointStore.copy`."""
        check_keys(session_id, owner)
        check_keys(new_id, owner)
        repeated: list[None] = []
        return await self._run(
            lambda database: checkpoints.copy(
                database, session_id, new_id, owner, repeated=bool(repeated)
            ),
            writes=True,
            on_doubt=lambda: repeated.append(None),
        )

    async def _run(
        self,
        work: Callable[[Database], T],
        *,
        writes: bool = False,
        may_join: bool = False,
        on_doubt: Callable[[], None] | None = None,
    ) -> T:
        """Run ``work``; the first time over an engine the tables are made before."""
        try:
            return await self._retrying.run(
                work, writes=writes, may_join=may_join, on_doubt=on_doubt
            )
        except CheckpointTablesUnknown:
            make = partial(make_tables, creates=self._creates)
            await self._retrying.run(make, writes=True)
        return await self._retrying.run(work, writes=writes, may_join=may_join, on_doubt=on_doubt)
