"""Conversations in memory that are listed, named, moved, and found by keys."""

import time
from dataclasses import replace
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from hermes_session_mw.exceptions import SessionFull, SessionNotFound
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.memory.kept import KeptSessions, Row, SessionRecord
from hermes_session_mw.stores.models import PAGE, SessionInfo, SessionPage
from hermes_session_mw.stores.pagination import page_of, place_after, place_of
from hermes_session_mw.stores.validation import check_key, check_keys, check_page, check_title


class Threads(KeptSessions):
    """The part of a `LifecycleStore` that a list of threads is made with."""

    async def list(
        self, owner: str = "", limit: int = PAGE, cursor: str | None = None
    ) -> SessionPage:
        """See `LifecycleStore.list`."""
        check_keys("-", owner)
        check_page(limit)
        after = place_after(cursor)
        await checkpoint()
        with self._lock:
            sessions = [
                _info(session_id, kept)
                for (whose, session_id), kept in self._sessions.items()
                if whose == owner and kept.exists
            ]
        ordered = sorted(((-place_of(each).changed, each.id), each) for each in sessions)
        start = None if after is None else (-after.changed, after.session_id)
        found = [each for place, each in ordered if start is None or place > start]
        return page_of(found, limit)

    async def info(self, session_id: str, owner: str = "") -> SessionInfo | None:
        """See `LifecycleStore.info`."""
        check_keys(session_id, owner)
        kept = await self._look(session_id, owner)
        return _info(session_id, kept) if kept.exists else None

    async def rename(self, session_id: str, title: str | None, owner: str = "") -> bool:
        """See `LifecycleStore.rename`."""
        check_keys(session_id, owner)
        check_title(title)
        await checkpoint()
        with self._lock:
            kept = self._sessions.get((owner, session_id), SessionRecord())
            if kept.exists:
                self._sessions[owner, session_id] = replace(kept, title=title)
            return kept.exists

    async def export(self, session_id: str, owner: str = "") -> str:
        """See `LifecycleStore.export`."""
        check_keys(session_id, owner)
        kept = await self._look(session_id, owner)
        if not kept.exists:
            raise SessionNotFound
        rows = ((row.turn_id, row.body) for row in kept.rows)
        return jsonl.write(_info(session_id, kept), rows)

    async def import_(self, lines: str, owner: str = "", session_id: str | None = None) -> str:
        """See `LifecycleStore.import_`."""
        session = jsonl.read(lines, self.max_message_bytes)
        new_id = session.session_id if session_id is None else session_id
        check_keys(new_id, owner)
        if session.turns > self._max_turns:
            raise SessionFull(self._max_turns)
        await checkpoint()
        with self._lock:
            fence = self._unused(new_id, owner).fence
            self._sessions[owner, new_id] = SessionRecord(
                [Row(turn_id, body) for turn_id, body in session.rows],
                turns=session.turns,
                title=session.title,
                created_at=session.created_at.timestamp(),
                used_at=time.time(),
                fence=fence,
            )
        return new_id

    async def bind_key(self, key: str, new_id: str, owner: str = "") -> str:
        """See `LifecycleStore.bind_key`."""
        check_key(key, owner)
        check_keys(new_id, owner)
        await checkpoint()
        with self._lock:
            if (owner, key) not in self._keys:
                self._bind((owner, key), new_id)
            return self._keys[owner, key]

    async def move_key(self, key: str, session_id: str, owner: str = "") -> None:
        """See `LifecycleStore.move_key`."""
        check_key(key, owner)
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            self._bind((owner, key), session_id)

    async def find_key(self, key: str, owner: str = "") -> str | None:
        """See `LifecycleStore.find_key`."""
        check_key(key, owner)
        await checkpoint()
        return self._keys.get((owner, key))

    async def drop_key(self, key: str, owner: str = "") -> bool:
        """See `LifecycleStore.drop_key`."""
        check_key(key, owner)
        await checkpoint()
        with self._lock:
            return self._keys.pop((owner, key), None) is not None


def _info(session_id: str, kept: SessionRecord) -> SessionInfo:
    created, used = (datetime.fromtimestamp(at, UTC) for at in (kept.created_at, kept.used_at))
    return SessionInfo(session_id, kept.title, len(kept.rows), created, used, kept.parent_id)
