"""A process that edits one session until it is killed.

``python -m tests.support.edit_worker URL ID LOG`` is its command. It appends, replaces,
rewinds, compacts, and appends in turns; the names of the messages whose append was acknowledged go
to the log, a line each.
"""

import itertools
import random
import secrets
import sys
from pathlib import Path

import anyio

from hermes_session_mw import (
    HermesSession,
    SessionBusy,
    SessionConflict,
    SQLAlchemyStore,
    TurnLost,
)


async def _append(store: SQLAlchemyStore, session_id: str, names: list[str]) -> list[str]:
    await store.append(session_id, [{"name": name} for name in names], turn_id=names[0])
    return names


async def _append_in_turn(store: SQLAlchemyStore, session_id: str, names: list[str]) -> list[str]:
    session = HermesSession(store, session_id)
    async with session.turn(lease=1, wait=5):
        await session.append({"name": names[0]})
    return names[:1]


async def _replace(store: SQLAlchemyStore, session_id: str, names: list[str]) -> list[str]:
    keep = max((await store.load(session_id, limit=0)).length - len(names), 0)
    messages = [{"name": name} for name in names]
    await store.append(session_id, messages, turn_id=names[0], replace_from=keep)
    return names


async def _rewind(store: SQLAlchemyStore, session_id: str, names: list[str]) -> list[str]:
    history = await store.load(session_id, limit=0)
    await store.rewind(session_id, max(history.length - len(names), 0))
    return []


async def _compact(store: SQLAlchemyStore, session_id: str, names: list[str]) -> list[str]:
    history = await store.load(session_id)
    if history.length > len(names):
        await store.compact(session_id, history.messages[: len(names)], [{"summary": names[0]}])
    return []


_WORK = [_append, _append, _append, _append_in_turn, _replace, _rewind, _compact]


async def _main(*arguments: str) -> None:
    url, session_id, log = arguments
    store = SQLAlchemyStore(url, timeout=60)
    me = secrets.token_hex(4)
    with Path(log).open("a", encoding="utf-8") as acknowledged:  # noqa: ASYNC230  # nobody waits
        for number in itertools.count():
            names = [f"{me}-{number}-{part}" for part in range(random.randint(1, 3))]
            try:
                stored = await random.choice(_WORK)(store, session_id, names)
            except (SessionBusy, SessionConflict, TurnLost):
                continue  # another was faster
            acknowledged.writelines(f"{name}\n" for name in stored)
            acknowledged.flush()


if __name__ == "__main__":
    anyio.run(_main, *sys.argv[1:])
