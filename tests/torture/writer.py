"""One writer: appends turns of three messages to one session, and notes how each went.

In the mode ``repeat`` every turn has a ``turn_id``, and is repeated until it is acknowledged, as a
caller should who must not lose it. In the mode ``trust`` it has none, and the store has to find out
by itself what became of it: one that is in doubt is left behind.
"""

import itertools
import os
import sys

import anyio

from hermes_session_mw import AppendInDoubt, SQLAlchemyStore, StoreTimeout, StoreUnavailable

PARENT = os.getppid()


async def write(url: str, session_id: str, name: str, mode: str) -> None:
    """Append until killed, or until there is nobody any more who would."""
    store = SQLAlchemyStore(url)
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


def tell(what: str, *numbers: int) -> None:
    """Write one line, whole or not at all."""
    os.write(1, f"{what} {' '.join(map(str, numbers))}\n".encode())


url, session_id, writer, mode = sys.argv[1:]
anyio.run(write, url, session_id, writer, mode)
