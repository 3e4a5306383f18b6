"""Functions that make the contracts' sessions."""

import json
import secrets
from datetime import timedelta
from typing import Any

import anyio
import pytest

from hermes_session_mw import History, LifecycleStore

UNKNOWN = History([], 0, exists=False)
EMPTY = History([], 0, exists=True)
DELETED = History([], 0, exists=False, deleted=True)
SUMMARY = [{"summary": 1}]


def new_id() -> str:
    """Return a session id that no other test has."""
    return secrets.token_hex(8)


def numbered(first: int, count: int = 1) -> list[dict[str, Any]]:
    """Return messages that contain their index."""
    return [{"n": n} for n in range(first, first + count)]


async def stored(store: LifecycleStore, count: int = 4, owner: str = "") -> str:
    """Return the id of a session with this many messages, each a turn with its number as id."""
    session_id = new_id()
    for number in range(count):
        await store.append(session_id, numbered(number), owner, turn_id=str(number))
    return session_id


async def archive_of(store: LifecycleStore, session_id: str, owner: str = "") -> list[Any]:
    """Return what is archived: message, turn id and reason."""
    found = await store.archived(session_id, owner)
    assert all(old.archived_at.utcoffset() is not None for old in found)
    return [(old.message["n"], old.turn_id, old.reason) for old in found if "n" in old.message]


async def pruned(store: LifecycleStore, session_id: str) -> None:
    """Prune until the store keeps nothing of the session, also not its deletion."""
    prune = getattr(store, "prune", None)
    if prune is None:
        pytest.skip("the store prunes nothing")
    witness = new_id()
    await store.append(witness, numbered(0))
    with anyio.fail_after(60):
        # Used after the session, so that it is never pruned before it.
        while (await store.load(witness)).exists:
            await anyio.sleep(0.1)  # longer than any lease that has to expire
            await prune(timedelta(0))
    assert await store.load(session_id) == UNKNOWN


async def begin(store: LifecycleStore, session_id: str, how: str) -> None:
    """Begin a session with one message under the id."""
    other = await stored(store, 1)
    if how == "append":
        await store.append(session_id, numbered(0))
    elif how == "fork":
        await store.fork(other, session_id)
    elif how == "import":
        await store.import_(export_of(numbered(0)), session_id=session_id)
    else:
        await store.rotate(other, session_id)


def export_of(messages: list[Any]) -> str:
    """Return lines as an export gives them."""
    head = {"hermes_session": 1, "id": new_id(), "created_at": "2026-01-31T12:00:00Z"}
    rows = [{"turn_id": str(n), "message": message} for n, message in enumerate(messages)]
    return "\n".join(json.dumps(each) for each in (head, *rows))
