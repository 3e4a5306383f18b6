"""One of those who take turns, stay in one, or remove sessions; it says what it did.

A write that is in doubt is left behind; what is refused, late or unavailable is counted. Any error
that a caller need not expect ends it.
"""

import os
import random
import sys
import time
from datetime import timedelta

import anyio

from hermes_session_mw import (
    AppendInDoubt,
    SessionBusy,
    SessionDeleted,
    StoreTimeout,
    StoreUnavailable,
    TurnLost,
)
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

PARENT = os.getppid()
LEASE = 0.2
IN_THE_FUTURE = 2_000_000_000
"""A time that everything was changed before, in seconds from 1970."""


async def take(store: AdminStore, _name: str, shared: list[str]) -> None:
    """Take turns of the shared sessions, and write in each; be late in some."""
    while os.getppid() == PARENT:
        session_id = random.choice(shared)
        is_late = random.random() < 0.3
        try:
            fence = await acquire(store, session_id, LEASE / 10 if is_late else LEASE)
            if is_late:
                await anyio.sleep(random.uniform(0, LEASE))
            await write(store, session_id, fence, 0)
            await store.release(session_id, fence)
        except (SessionBusy, SessionDeleted):
            await anyio.sleep(0.01)
        except TurnLost:
            tell("late", 1)
        except (AppendInDoubt, StoreTimeout):
            tell("doubt", 1)
        except StoreUnavailable:
            tell("unavailable", 1)


async def keep(store: AdminStore, name: str, _shared: list[str]) -> None:
    """Stay in one turn of a session of its own, and write in it."""
    fence, turn = 0, 0
    while os.getppid() == PARENT:
        try:
            fence = fence or await acquire(store, f"own-{name}", 86400)
            turn += 1  # also where the last one is in doubt
            await write(store, f"own-{name}", fence, turn)
        except (AppendInDoubt, StoreTimeout):
            tell("doubt", 1)
        except StoreUnavailable:
            tell("unavailable", 1)
        await anyio.sleep(0.02)


async def remove(store: AdminStore, _name: str, shared: list[str]) -> None:
    """Delete and prune, in each of the two ways."""
    while os.getppid() == PARENT:
        try:
            if random.random() < 0.2:
                tell("removed", int(await store.delete(random.choice(shared))))
            else:
                gone = await store.prune_stale(IN_THE_FUTURE, None, lambda _: None)
                tell("removed", gone.sessions)
                tell("removed", await store.prune(timedelta(0)))
        except (AppendInDoubt, StoreTimeout):
            tell("doubt", 1)
        except StoreUnavailable:
            tell("unavailable", 1)
        await anyio.sleep(random.uniform(0, 0.1))


async def acquire(store: AdminStore, session_id: str, lease: float) -> int:
    """Take a turn, and tell of it."""
    asked = time.monotonic_ns()
    fence = await store.acquire(session_id, lease)
    tell("taken", session_id, fence, asked, time.monotonic_ns())
    return fence


async def write(store: AdminStore, session_id: str, fence: int, turn: int) -> None:
    """Append three messages in the turn, and tell of it."""
    messages = [{"fence": fence, "turn": turn, "part": part} for part in range(3)]
    length = await store.append(session_id, messages, fence=fence)
    tell("stored", session_id, fence, turn, length)


def tell(what: str, *words: str | int) -> None:
    """Write one line, whole or not at all."""
    os.write(1, f"did {what} {' '.join(map(str, words))}\n".encode())


async def main(*words: str) -> None:
    """Do what the role does, until killed or until there is nobody any more who would."""
    url, role, name, *shared = words
    store = AdminStore(url, access="create", timeout=10)
    await {"taker": take, "keeper": keep, "remover": remove}[role](store, name, shared)


anyio.run(main, *sys.argv[1:])
