"""What `SQLAlchemyStore` offers beyond `Store`: a `LifecycleStore`'s operations, each one hop."""

import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.exceptions import SessionFull
from hermes_session_mw.messages import Message
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.models import (
    PAGE,
    ArchivedMessage,
    SessionInfo,
    SessionPage,
    StoredTurn,
)
from hermes_session_mw.stores.pagination import page_of, place_after
from hermes_session_mw.stores.sqlalchemy.statements import (
    fork_rotate_import,
    leases,
    list_sessions,
    rewind_compact,
    session_keys,
    turns,
)
from hermes_session_mw.stores.validation import (
    check_count,
    check_key,
    check_keys,
    check_lease,
    check_page,
    check_title,
    encode_replaced,
)

T = TypeVar("T")


class Lifecycle:
    """The operations of `LifecycleStore` that are not those of `Store`.

    Every one that writes is one short transaction, repeated where another was in its way or the
    connection broke.
    """

    _attempts: RetryingExecutor
    _encode: Callable[[Sequence[Message]], list[str]]
    max_message_bytes: int
    _max_turns: int

    async def _read(self, work: Callable[[Database], T]) -> T:
        return await self._attempts.run(work, writes=False)

    async def _write(self, work: Callable[[Database], T]) -> T:
        return await self._attempts.run(work, writes=True)

    async def _write_once(self, work: Callable[[Database, bool], T]) -> T:
        """Run work that is told whether it may have been done already."""
        repeated = False

        def doubt() -> None:
            nonlocal repeated
            repeated = True

        return await self._attempts.run(lambda c: work(c, repeated), writes=True, on_doubt=doubt)

    async def rewind(
        self, session_id: str, length: int, owner: str = "", *, fence: int | None = None
    ) -> int:
        """See `LifecycleStore.rewind`."""
        check_keys(session_id, owner)
        check_count("length", length)
        return await self._write(
            lambda c: rewind_compact.rewind(c, session_id, length, owner, fence)
        )

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
        """See `LifecycleStore.compact`."""
        check_keys(session_id, owner)
        check_count("skipped", skipped)
        seen = encode_replaced(replaced, skipped, self.max_message_bytes)
        bodies = self._encode(summary)
        turn_id = secrets.token_hex(16)

        def work(database: Database) -> int:
            return rewind_compact.compact(
                database,
                session_id,
                seen,
                bodies,
                owner,
                skipped=skipped,
                fence=fence,
                turn_id=turn_id,
            )

        return await self._write(work)

    async def find_turn(self, session_id: str, turn_id: str, owner: str = "") -> StoredTurn | None:
        """See `LifecycleStore.find_turn`."""
        check_keys(session_id, owner, turn_id)
        return await self._read(lambda c: turns.find_turn(c, session_id, turn_id, owner))

    async def archived(self, session_id: str, owner: str = "") -> Sequence[ArchivedMessage]:
        """See `LifecycleStore.archived`."""
        check_keys(session_id, owner)
        return await self._read(lambda c: rewind_compact.archived(c, session_id, owner))

    async def fork(
        self, session_id: str, new_id: str, owner: str = "", length: int | None = None
    ) -> int:
        """See `LifecycleStore.fork`."""
        check_keys(session_id, owner)
        check_keys(new_id, owner)
        check_count("length", length)
        turn_id = secrets.token_hex(16)
        return await self._write_once(
            lambda c, repeated: fork_rotate_import.fork(
                c, session_id, new_id, owner, length, turn_id=turn_id, repeated=repeated
            )
        )

    async def rotate(
        self, session_id: str, new_id: str, owner: str = "", new_owner: str | None = None
    ) -> bool:
        """See `LifecycleStore.rotate`."""
        to = owner if new_owner is None else new_owner
        check_keys(session_id, owner)
        check_keys(new_id, to)
        return await self._write_once(
            lambda c, repeated: fork_rotate_import.rotate(
                c, session_id, new_id, owner, to, repeated=repeated
            )
        )

    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        """See `LifecycleStore.acquire`."""
        check_keys(session_id, owner)
        check_lease(seconds)
        return await self._write(lambda c: leases.acquire(c, session_id, owner, seconds))

    async def extend(self, session_id: str, fence: int, seconds: float, owner: str = "") -> None:
        """See `LifecycleStore.extend`."""
        check_keys(session_id, owner)
        check_lease(seconds)
        await self._write(lambda c: leases.extend(c, session_id, owner, fence, seconds))

    async def release(self, session_id: str, fence: int, owner: str = "") -> None:
        """See `LifecycleStore.release`."""
        check_keys(session_id, owner)
        await self._write(lambda c: leases.release(c, session_id, owner, fence))

    async def list(
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None
    ) -> SessionPage:
        """See `LifecycleStore.list`; it reads the owner's sessions, one small row each."""
        check_keys("-", owner)
        check_page(limit)
        after = place_after(cursor)
        found = await self._read(lambda c: list_sessions.list_sessions(c, owner, limit + 1, after))
        return page_of(found, limit)

    async def info(self, session_id: str, owner: str = "") -> SessionInfo | None:
        """See `LifecycleStore.info`."""
        check_keys(session_id, owner)
        return await self._read(lambda c: list_sessions.info(c, session_id, owner))

    async def rename(self, session_id: str, title: str | None, owner: str = "") -> bool:
        """See `LifecycleStore.rename`."""
        check_keys(session_id, owner)
        check_title(title)
        return await self._write(lambda c: list_sessions.rename(c, session_id, title, owner))

    async def export(self, session_id: str, owner: str = "") -> str:
        """See `LifecycleStore.export`."""
        check_keys(session_id, owner)
        return await self._write(lambda c: list_sessions.export(c, session_id, owner))

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """See `LifecycleStore.import_`."""
        session = jsonl.read(lines, self.max_message_bytes)
        new_id = session.session_id if session_id is None else session_id
        check_keys(new_id, owner)
        if session.turns > self._max_turns:
            raise SessionFull(self._max_turns)
        await self._write_once(
            lambda c, repeated: fork_rotate_import.bring_in(
                c, new_id, session, owner, repeated=repeated
            )
        )
        return new_id

    async def bind_key(self, key: str, new_id: str, owner: str = "") -> str:
        """See `LifecycleStore.bind_key`."""
        check_key(key, owner)
        check_keys(new_id, owner)
        return await self._write(lambda c: session_keys.bind_key(c, key, new_id, owner))

    async def move_key(self, key: str, session_id: str, owner: str = "") -> None:
        """See `LifecycleStore.move_key`."""
        check_key(key, owner)
        check_keys(session_id, owner)
        await self._write(lambda c: session_keys.move_key(c, key, session_id, owner))

    async def find_key(self, key: str, owner: str = "") -> str | None:
        """See `LifecycleStore.find_key`."""
        check_key(key, owner)
        return await self._read(lambda c: session_keys.find_key(c, key, owner))

    async def drop_key(self, key: str, owner: str = "") -> bool:
        """See `LifecycleStore.drop_key`."""
        check_key(key, owner)
        return await self._write(lambda c: session_keys.drop_key(c, key, owner))
