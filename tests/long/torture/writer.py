"""One writer: appends turns of three messages to one session, and notes how each went.

In the mode ``repeat`` every turn has a ``turn_id``, and is repeated until it is acknowledged, as a
caller should who must not lose it. In the mode ``trust`` it has none, and the store has to find out
by itself what became of it: one that is in doubt is left behind. In the mode ``replace`` they are
repeated as well, each in a turn that the writer has taken, and most replace the last one.
"""

import itertools
import os
import random
import sys

import anyio

from hermes_session_mw import (
    AppendInDoubt,
    HermesSession,
    SessionBusy,
    SQLAlchemyStore,
    StoreTimeout,
    StoreUnavailable,
    TurnLost,
)
from hermes_session_mw.session.store_client import StoreClient

PARENT = os.getppid()


async def write(url: str, session_id: str, name: str, mode: str) -> None:
    """Append until killed, or until there is nobody any more who would."""
    store = SQLAlchemyStore(url)
    if mode == "replace":
        await replace(store, session_id, name)
        return
    for turn in itertools.count():
        messages = [{"writer": name, "turn": turn, "part": part} for part in range(3)]
        turn_id = f"{name}-{turn}" if mode == "repeat" else None
        while os.getppid() == PARENT:
            try:
                length = await store.append(session_id, messages, turn_id=turn_id)
            except (AppendInDoubt, StoreTimeout):  # it may have been stored
                tell("doubt", turn)
                if mode == "trust":
                    break
            except StoreUnavailable:
                tell("unavailable", turn)
                await anyio.sleep(0.05)
            else:
                tell("stored", turn, length)
                break
        else:
            return


async def replace(store: SQLAlchemyStore, session_id: str, name: str) -> None:
    """Append and replace until killed, or until there is nobody any more who would."""
    access = StoreClient(store, limit=3)
    for turn in itertools.count():
        if os.getppid() != PARENT:
            return
        await anyio.sleep(random.uniform(0, 0.1))  # as if a model had answered
        session = HermesSession(access, session_id)
        try:
            async with session.turn(lease=1, wait=5):
                await _replace_once(session, name, turn)
        except (SessionBusy, TurnLost):
            tell("refused", turn)
        except StoreUnavailable:
            tell("unavailable", turn)
            await anyio.sleep(0.05)


async def _replace_once(session: HermesSession, name: str, turn: int) -> None:
    """Put a turn in the place of the last one, or behind it, for as long as that is in doubt."""
    replaces, place = None, None
    if session.history and random.random() < 0.8:
        last = session.history[-1]
        replaces, place = [last["writer"], last["turn"]], session.length - 3
    messages = [
        {"writer": name, "turn": turn, "part": part, "replaces": replaces} for part in range(3)
    ]
    while True:
        try:
            length = await session.append(*messages, turn_id=f"{name}-{turn}", replace_from=place)
        except (AppendInDoubt, StoreTimeout):
            tell("doubt", turn)
        else:
            tell("stored", turn, length)
            return


def tell(what: str, *numbers: int) -> None:
    """Write one line, whole or not at all."""
    os.write(1, f"{what} {' '.join(map(str, numbers))}\n".encode())


url, session_id, writer, mode = sys.argv[1:]
anyio.run(write, url, session_id, writer, mode)
