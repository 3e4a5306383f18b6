"""The operations of a store, as a journal has them: by name, with texts for messages."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from hermes_session_mw import LifecycleStore
from hermes_session_mw.messages import Message
from tests.long.torture.model.contract import Old, Place, Row

GIVEN_TURN = "turn-"
"""How the turn ids begin that workers give; those that a store makes do not."""

Given = Mapping[str, Any]
Call = Callable[[Any, Place, Given], Awaitable[Any]]


async def call(store: LifecycleStore, name: str, place: Place, given: Given) -> Any:
    """Do one operation, and return what it answered, as JSON has it."""
    return await _CALLS[name](store, place, given)


async def _load(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    found = await store.load(session_id, owner, given["limit"])
    return [_texts(found.messages), found.length, found.exists, found.deleted]


async def _append(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    return await store.append(
        session_id,
        _messages(given["messages"]),
        owner,
        given["turn_id"],
        given["expected_length"],
        fence=given["fence"],
        replace_from=given["replace_from"],
    )


async def _rewind(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    return await store.rewind(session_id, given["length"], owner, fence=given["fence"])


async def _compact(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    replaced, summary = _messages(given["replaced"]), _messages(given["summary"])
    return await store.compact(
        session_id, replaced, summary, owner, skipped=given["skipped"], fence=given["fence"]
    )


async def _find_turn(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    turn = await store.find_turn(session_id, given["turn_id"], owner)
    return None if turn is None else [_texts(turn.messages), turn.start]


async def _archived(store: LifecycleStore, place: Place, _given: Given) -> Any:
    return [list(old) for old in await _archive(store, place)]


async def _archive(store: LifecycleStore, place: Place) -> list[Old]:
    owner, session_id = place
    archived = await store.archived(session_id, owner)
    return [Old(old.message["text"], _turn(old.turn_id), old.reason) for old in archived]


async def _fork(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    return await store.fork(session_id, given["new_id"], owner, given["length"])


async def _rotate(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    return await store.rotate(session_id, given["new_id"], owner, given["new_owner"])


async def _delete(store: LifecycleStore, place: Place, _given: Given) -> Any:
    owner, session_id = place
    return await store.delete(session_id, owner)


async def _acquire(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    return await store.acquire(session_id, given["seconds"], owner)


async def _extend(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    await store.extend(session_id, given["fence"], given["seconds"], owner)


async def _release(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, session_id = place
    await store.release(session_id, given["fence"], owner)


async def _info(store: LifecycleStore, place: Place, _given: Given) -> Any:
    owner, session_id = place
    info = await store.info(session_id, owner)
    return None if info is None else [info.length, info.parent_id]


async def _list(store: LifecycleStore, place: Place, _given: Given) -> Any:
    page = await store.list(place[0])
    return sorted([each.id, each.length] for each in page.sessions)


async def _prune(store: Any, _place: Place, given: Given) -> Any:
    return await store.prune(timedelta(seconds=given["seconds"]))


async def _bind_key(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, key = place
    return await store.bind_key(key, given["new_id"], owner)


async def _move_key(store: LifecycleStore, place: Place, given: Given) -> Any:
    owner, key = place
    await store.move_key(key, given["session_id"], owner)


async def _find_key(store: LifecycleStore, place: Place, _given: Given) -> Any:
    owner, key = place
    return await store.find_key(key, owner)


async def _drop_key(store: LifecycleStore, place: Place, _given: Given) -> Any:
    owner, key = place
    return await store.drop_key(key, owner)


async def _see(store: LifecycleStore, place: Place, _given: Given) -> Any:
    """Return all that a session is, while nobody changes it."""
    owner, session_id = place
    history = await store.load(session_id, owner)
    archive = tuple(await _archive(store, place))
    if not history.exists:
        return history.exists, history.deleted, (), archive, None
    info = await store.info(session_id, owner)
    _, *lines = (await store.export(session_id, owner)).splitlines()
    exported = [json.loads(line) for line in lines]
    rows = tuple(Row(line["message"]["text"], _turn(line["turn_id"])) for line in exported)
    assert info is not None, place
    assert [row.text for row in rows] == _texts(history.messages), (place, rows, history)
    assert info.length == history.length == len(rows), (place, rows, history, info)
    return history.exists, history.deleted, rows, archive, info.parent_id


def _turn(turn_id: str) -> str | None:
    return turn_id if turn_id.startswith(GIVEN_TURN) else None


def _messages(texts: Sequence[str]) -> list[Message]:
    return [{"text": text} for text in texts]


def _texts(messages: Sequence[Message]) -> list[str]:
    return [message["text"] for message in messages]


_CALLS: dict[str, Call] = {
    "load": _load,
    "append": _append,
    "rewind": _rewind,
    "compact": _compact,
    "find_turn": _find_turn,
    "archived": _archived,
    "fork": _fork,
    "rotate": _rotate,
    "delete": _delete,
    "acquire": _acquire,
    "extend": _extend,
    "release": _release,
    "info": _info,
    "list": _list,
    "prune": _prune,
    "bind_key": _bind_key,
    "move_key": _move_key,
    "find_key": _find_key,
    "drop_key": _drop_key,
    "see": _see,
}
