"""A model of a history, as a list, that a store is compared with after each step."""

import random
from typing import Any

import pytest

from hermes_session_mw import LifecycleStore, SessionConflict

Step = tuple[str, int, int]

KINDS = ["append", "append", "repeat", "rewind", "replace", "compact", "stale", "limit"]


def courses(seed: int, count: int = 12) -> list[list[Step]]:
    """Return ``count`` courses of edits, the same ones for the same seed."""
    chosen = random.Random(seed)
    return [
        [
            (chosen.choice(KINDS), chosen.randint(0, 6), chosen.randint(0, 3))
            for _ in range(chosen.randint(4, 14))
        ]
        for _ in range(count)
    ]


class HistoryModel:
    """The expected session: its history, and every message that was ever in it."""

    def __init__(self, store: LifecycleStore, session_id: str) -> None:
        self._store = store
        self._id = session_id
        self._history: list[dict[str, Any]] = []
        self._archived: list[dict[str, Any]] = []
        self._turns: list[tuple[str, list[dict[str, Any]]]] = []
        self._made = 0

    async def do(self, step: Step) -> None:
        """Take one step, on both."""
        kind, size, number = step
        await getattr(self, f"_{kind}")(size, number)
        history = await self._store.load(self._id)
        assert history.messages == self._history
        assert history.length == len(self._history)
        assert history.exists == (self._made > 0)

    async def check(self) -> None:
        """Compare what is archived, and each turn ever made."""
        archived = [old.message for old in await self._store.archived(self._id)]
        assert archived == self._archived
        for turn_id, messages in self._turns:
            turn = await self._store.find_turn(self._id, turn_id)
            assert turn is not None
            assert turn.messages == messages
            is_whole = all(message in self._history for message in messages)
            start = self._history.index(messages[0]) if is_whole else None
            assert turn.start == start

    def _new(self, count: int) -> list[dict[str, Any]]:
        self._made += count
        return [{"made": self._made - count + n} for n in range(count)]

    async def _append(self, _size: int, number: int) -> None:
        messages = self._new(number + 1)
        turn_id = f"turn-{len(self._turns)}"
        before = len(self._history)
        length = await self._store.append(
            self._id, messages, turn_id=turn_id, expected_length=before
        )
        self._turns.append((turn_id, messages))
        self._history += messages
        assert length == len(self._history)

    async def _repeat(self, size: int, _number: int) -> None:
        if self._turns:
            turn_id, messages = self._turns[size % len(self._turns)]
            length = await self._store.append(self._id, messages, turn_id=turn_id)
            assert 0 <= length <= len(self._history)
            if messages[-1] in self._history:
                assert length == self._history.index(messages[-1]) + 1

    async def _rewind(self, size: int, _number: int) -> None:
        assert await self._store.rewind(self._id, size) == min(size, len(self._history))
        self._archived += self._history[size:]
        del self._history[size:]

    async def _replace(self, size: int, number: int) -> None:
        keep = min(size, len(self._history))
        messages = self._new(number + 1)
        turn_id = f"turn-{len(self._turns)}"
        self._turns.append((turn_id, messages))
        self._archived += self._history[keep:]
        self._history[keep:] = messages
        for _ in range(1 + number % 2):
            length = await self._store.append(
                self._id, messages, turn_id=turn_id, replace_from=keep
            )
            assert length == len(self._history)

    async def _compact(self, size: int, number: int) -> None:
        cut = min(size + 1, len(self._history))
        skipped = min(number, cut)
        if not cut:
            return
        summary = self._new(number + 1)
        self._archived += self._history[:cut]
        length = await self._store.compact(
            self._id, self._history[skipped:cut], summary, skipped=skipped
        )
        self._history[:cut] = summary
        assert length == len(self._history)

    async def _stale(self, size: int, _number: int) -> None:
        wrong = size + (size >= len(self._history))
        with pytest.raises(SessionConflict) as caught:
            await self._store.append(self._id, [{"never": size}], expected_length=wrong)
        assert caught.value.actual == len(self._history)

    async def _limit(self, size: int, _number: int) -> None:
        history = await self._store.load(self._id, limit=size)
        assert history.messages == (self._history[-size:] if size else [])
        assert history.length == len(self._history)
