"""`InMemorySessionStore` of Claude's Agent SDK, and ours, as the SDK itself writes to them."""

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from claude_agent_sdk import InMemorySessionStore
from claude_agent_sdk._internal import transcript_mirror_batcher
from claude_agent_sdk._internal.transcript_mirror_batcher import TranscriptMirrorBatcher

from hermes_session_mw.adapters.claude_agent import StoredSessionStore
from tests.adapters.frameworks.own_stores.defect import Defect, plainly
from tests.adapters.frameworks.test_claude_agent import ID, KEY, PROJECT, user

PROJECTS = Path("/projects")
ATTEMPTS = transcript_mirror_batcher.MIRROR_APPEND_MAX_ATTEMPTS


class Flaky:
    """A store whose first appends fail, after they were stored or before."""

    def __init__(self, store: Any, failures: int, *, stores: bool) -> None:
        self._store = store
        self._failures = failures
        self._stores = stores

    async def append(self, key: Any, entries: Any) -> None:
        fails = self._failures > 0
        self._failures -= 1
        if self._stores or not fails:
            await self._store.append(key, entries)
        if fails:
            raise ConnectionError


async def mirrored(store: Any, failures: int, *, stores: bool) -> str:
    """Have the SDK write two entries, and then one; return the numbers of those that are there."""

    async def on_error(key: Any, message: str) -> None:
        pass

    batcher = TranscriptMirrorBatcher(
        Flaky(store, failures, stores=stores), str(PROJECTS), on_error
    )
    file = str(PROJECTS / PROJECT / f"{ID}.jsonl")
    pauses = (0.0,) * (ATTEMPTS - 1)
    with patch.object(transcript_mirror_batcher, "MIRROR_APPEND_BACKOFF_S", pauses):
        for numbers in ((1, 2), (3,)):
            batcher.enqueue(file, [user(number, str(number)) for number in numbers])
            await batcher.flush()
    entries = await store.load(KEY) or []
    return ", ".join(each["message"]["content"] for each in entries)


Claude = partial(
    Defect,
    own=plainly(lambda folder: InMemorySessionStore()),
    over=StoredSessionStore,
    framework="Claude Agent SDK, `InMemorySessionStore`",
)
DEFECTS = [
    Claude(
        "entries 1 and 2 are stored, but the SDK is told of an error, and sends them again; then 3",
        partial(mirrored, failures=1, stores=True),
        theirs="1, 2, 1, 2, 3",
        ours="1, 2, 3",
    ),
    Claude(
        "the store is away for all three attempts at entries 1 and 2, and there for entry 3",
        partial(mirrored, failures=ATTEMPTS, stores=False),
        theirs="3",
        ours="3",
    ),
]
