"""What a store has to answer: a sequential model, written from the contract of `LifecycleStore`.

A `World` is what two owners have. `step` does one operation on it. Where the contract leaves open
what happens, because it goes by the clock, `step` allows all that may happen between the
operation's call and its return.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Place = tuple[str, str]
"""An owner, and a session's id or a key."""

OPEN = math.inf
"""When an operation returned of which nobody knows whether it did, or whether it was done."""

LONGEST_LEASE = 0.6
"""Seconds that a worker takes a turn for, at most."""

_TICK = 1.0
"""Seconds by which a stored time may be too early: some databases keep whole ones."""

_SLACK = 0.05
"""Seconds by which the database's clock may be off ours, over such a short time."""


class Row(NamedTuple):
    """A message of a history; ``turn`` is None where the store made the turn's id."""

    text: str
    turn: str | None


class Old(NamedTuple):
    """A message of an archive."""

    text: str
    turn: str | None
    reason: str


class Session(NamedTuple):
    """A session, or what is known of one that is not there.

    Attributes:
        fence: the highest number that was given out for its turn.
        holder: the number that may write.
        free_from: the time from which on the lease may be over.
        held_until: the time after which it is.
        changed: the earliest time at which it may have been changed last.
    """

    exists: bool = False
    deleted: bool = False
    history: tuple[Row, ...] = ()
    archive: tuple[Old, ...] = ()
    parent: str | None = None
    fence: int = 0
    holder: int | None = None
    free_from: float = -math.inf
    held_until: float = -math.inf
    changed: float = -math.inf


class Key(NamedTuple):
    """What a key leads to, and the earliest time at which it may have been bound."""

    session_id: str
    changed: float = -math.inf


@dataclass(frozen=True, eq=False)
class Operation:
    """What was asked of a store, and what it answered.

    Attributes:
        call: a time before it was asked.
        ret: a time after it had answered; ``OPEN`` where it may be done until the end.
        error: the name of the error that it raised, and the error's numbers.
        may_be_left_out: whether it may have had no effect at all.
        by: who asked.
    """

    name: str
    place: Place
    arguments: Mapping[str, Any]
    call: float
    ret: float
    value: Any = None
    error: tuple[Any, ...] | None = None
    may_be_left_out: bool = False
    by: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its answer is not known."""
        return self.ret == OPEN

    def gives(self, value: Any) -> bool:
        """Tell whether ``value`` is what it answered, or may have."""
        return self.is_open or bool(self.value == value)


class World:
    """The sessions and keys of two owners at one moment; not changed, but replaced."""

    __slots__ = ("_hash", "keys", "sessions")

    def __init__(self, sessions: Mapping[Place, Session], keys: Mapping[Place, Key]) -> None:
        self.sessions = sessions
        self.keys = keys
        self._hash = hash((frozenset(sessions.items()), frozenset(keys.items())))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, World)
            and self._hash == other._hash
            and self.sessions == other.sessions
            and self.keys == other.keys
        )

    def __hash__(self) -> int:
        return self._hash

    def __getitem__(self, place: Place) -> Session:
        return self.sessions.get(place, _NOTHING)

    def put(self, place: Place, session: Session) -> "World":
        """Return the world with that session in it."""
        return World({**self.sessions, place: session}, self.keys)

    def leading(self, place: Place, to: Key | None) -> "World":
        """Return the world where the keys that led to a session lead to ``to``, or nowhere."""
        owner, session_id = place
        keys = {
            name: to if name[0] == owner and key.session_id == session_id else key
            for name, key in self.keys.items()
        }
        return World(self.sessions, {name: key for name, key in keys.items() if key is not None})

    def bound(self, name: Place, key: Key | None) -> "World":
        """Return the world where a key leads to ``key``, or nowhere."""
        keys = {each: self.keys[each] for each in self.keys if each != name}
        return World(self.sessions, keys if key is None else {**keys, name: key})


_NOTHING = Session()


def step(world: World, operation: Operation) -> list[World]:
    """Return the worlds that may follow; none where the operation cannot have come now."""
    return _STEPS[operation.name](world, operation)


def touched(world: World, operation: Operation) -> set[Place]:
    """Return the places that the operation goes by, or changes, if it comes now.

    Two operations that have none in common may as well come in the other order.
    """
    owner, name = operation.place
    given = operation.arguments
    if operation.name == "list":
        return {place for place in world.sessions if place[0] == owner}
    found = {operation.place}
    if operation.name in {"rotate", "delete", "prune_session"}:
        found |= {
            key for key, leads in world.keys.items() if key[0] == owner and leads.session_id == name
        }
    if operation.place in world.keys:
        found.add((owner, world.keys[operation.place].session_id))
    if "new_id" in given:
        found.add((given.get("new_owner") or owner, given["new_id"]))
    if operation.name == "move_key":
        found.add((owner, given["session_id"]))
    return found


def _decide(
    world: World, operation: Operation, errors: Iterable[tuple[Any, ...]], done: list[World]
) -> list[World]:
    """Return ``done`` where nothing speaks against it, and the world as it is for a refusal."""
    reasons = list(errors)
    if operation.error is not None or reasons:
        return [world] if operation.error in reasons else []
    return done


def _reasons_not_to_write(session: Session, fence: int | None) -> list[tuple[Any, ...]]:
    reasons: list[tuple[Any, ...]] = []
    if session.deleted:
        reasons.append(("SessionDeleted",))
    if fence is not None and fence != session.holder:
        reasons.append(("TurnLost",))
    return reasons


def _append(world: World, operation: Operation) -> list[World]:
    given = operation.arguments
    session = world[operation.place]
    texts, turn_id = tuple(given["messages"]), given["turn_id"]
    length = len(session.history)
    reasons = _reasons_not_to_write(session, given["fence"])
    before = None if turn_id is None else _turn(session, turn_id)
    if before:
        if before != texts:
            reasons.append(("TurnConflict",))
        return _decide(world, operation, reasons, _repeated(world, operation, session))
    expected, kept = given["expected_length"], given["replace_from"]
    if expected is not None and expected != length:
        reasons.append(("SessionConflict", expected, length))
    if kept is not None and kept > length:
        reasons.append(("SessionConflict", kept, length))
    rows = tuple(Row(text, turn_id) for text in texts)
    grown = _archived(session, length if kept is None else kept, length, "replace")
    grown = grown._replace(exists=True, history=grown.history + rows, changed=operation.call)
    done = [world.put(operation.place, grown)] if operation.gives(len(grown.history)) else []
    return _decide(world, operation, reasons, done)


def _repeated(world: World, operation: Operation, session: Session) -> list[World]:
    """The turn's end is where its last message stands; anywhere, where that is archived."""
    turn_id = operation.arguments["turn_id"]
    last = Row(operation.arguments["messages"][-1], turn_id)
    if last in session.history:
        fits = operation.gives(session.history.index(last) + 1)
    else:
        fits = any(operation.gives(length) for length in range(len(session.history) + 1))
    return [world] if fits else []


def _turn(session: Session, turn_id: str) -> tuple[str, ...]:
    """Return a turn's messages, wherever they are; their texts end with their places in it."""
    texts = [row.text for row in session.history if row.turn == turn_id]
    texts += [old.text for old in session.archive if old.turn == turn_id]
    return tuple(sorted(texts, key=lambda text: int(text.rpartition(".")[2])))


def _archived(session: Session, start: int, stop: int, reason: str) -> Session:
    """Return the session with a part of its history archived."""
    moved = tuple(Old(*row, reason) for row in session.history[start:stop])
    history = session.history[:start] + session.history[stop:]
    return session._replace(history=history, archive=session.archive + moved)


def _rewind(world: World, operation: Operation) -> list[World]:
    session = world[operation.place]
    kept = min(operation.arguments["length"], len(session.history))
    reasons = _reasons_not_to_write(session, operation.arguments["fence"])
    cut = _archived(session, kept, len(session.history), "rewind")
    done = [world.put(operation.place, cut)] if operation.gives(kept) else []
    return _decide(world, operation, reasons, done)


def _compact(world: World, operation: Operation) -> list[World]:
    given = operation.arguments
    session = world[operation.place]
    texts = [row.text for row in session.history]
    reasons = _reasons_not_to_write(session, given["fence"])
    cut = given["skipped"] + len(given["replaced"])
    if len(texts) < cut or texts[given["skipped"] : cut] != given["replaced"]:
        reasons.append(("SessionConflict", cut, len(texts)))
    summary = tuple(Row(text, None) for text in given["summary"])
    shorter = _archived(session, 0, cut, "compact")
    shorter = shorter._replace(history=summary + shorter.history, changed=operation.call)
    done = [world.put(operation.place, shorter)] if operation.gives(len(shorter.history)) else []
    return _decide(world, operation, reasons, done)


def _reasons_not_to_begin(session: Session) -> list[tuple[Any, ...]]:
    if session.exists or session.deleted:
        return [("SessionConflict", 0, len(session.history))]
    return []


def _fork(world: World, operation: Operation) -> list[World]:
    owner, session_id = operation.place
    session = world[operation.place]
    place = owner, operation.arguments["new_id"]
    reasons = _reasons_not_to_begin(world[place])
    if not session.exists:
        reasons.append(("SessionNotFound",))
    length = operation.arguments["length"]
    history = session.history if length is None else session.history[:length]
    child = world[place]._replace(
        exists=True,
        history=tuple(Row(row.text, None) for row in history),
        parent=session_id,
        free_from=-math.inf,  # somebody may have the turn already: the contract does not say
        changed=operation.call,
    )
    done = [world.put(place, child)] if operation.gives(len(history)) else []
    return _decide(world, operation, reasons, done)


def _rotate(world: World, operation: Operation) -> list[World]:
    owner, _ = operation.place
    given = operation.arguments
    session = world[operation.place]
    place = owner if given["new_owner"] is None else given["new_owner"], given["new_id"]
    there = world[place]
    key = Key(given["new_id"], operation.call) if place[0] == owner else None
    done = world.leading(operation.place, key)
    if session.exists:
        # The turn does not go along.
        moved = session._replace(
            fence=max(session.fence, there.fence),
            holder=None,
            free_from=-math.inf,
            held_until=-math.inf,
            changed=operation.call,
        )
        done = done.put(operation.place, _gone(session, operation)).put(place, moved)
    fits = operation.gives(session.exists)
    return _decide(world, operation, _reasons_not_to_begin(there), [done] if fits else [])


def _gone(session: Session, operation: Operation) -> Session:
    return Session(deleted=True, fence=session.fence, changed=operation.call)


def _delete(world: World, operation: Operation) -> list[World]:
    session = world[operation.place]
    if not operation.gives(session.exists):
        return []
    if not session.exists:
        return [world]
    return [world.leading(operation.place, None).put(operation.place, _gone(session, operation))]


def _acquire(world: World, operation: Operation) -> list[World]:
    session = world[operation.place]
    if operation.error is not None:
        busy = operation.call - _SLACK <= session.held_until
        name, *seconds = operation.error
        if name == "SessionBusy" and busy and not session.deleted:
            return [world] if 0 < seconds[0] <= LONGEST_LEASE + _SLACK else []
        return [world] if session.deleted and name == "SessionDeleted" else []
    if session.deleted or operation.ret + _SLACK < session.free_from:
        return []
    fence = session.fence if operation.is_open else operation.value
    if not operation.is_open and fence <= session.fence:
        return []
    holder = None if operation.is_open else fence
    return [world.put(operation.place, _leased(session, operation, fence, holder))]


def _leased(session: Session, operation: Operation, fence: int, holder: int | None) -> Session:
    seconds = operation.arguments["seconds"]
    return session._replace(
        fence=fence,
        holder=holder,
        free_from=operation.call + seconds,
        held_until=operation.ret + seconds,
    )


def _extend(world: World, operation: Operation) -> list[World]:
    session = world[operation.place]
    fence = operation.arguments["fence"]
    reasons = [("TurnLost",)] if session.deleted or fence != session.holder else []
    done = _leased(session, operation, session.fence, session.holder)
    return _decide(world, operation, reasons, [world.put(operation.place, done)])


def _release(world: World, operation: Operation) -> list[World]:
    session = world[operation.place]
    if session.deleted or operation.arguments["fence"] != session.holder:
        return [world]
    free = session._replace(free_from=-math.inf, held_until=-math.inf)
    return [world.put(operation.place, free)]


def _prune_session(world: World, operation: Operation) -> list[World]:
    """What ``prune`` may do to one session: remove it, if it is old and nobody is in a turn."""
    session = world[operation.place]
    if not _is_old(session.changed, operation) or operation.ret + _SLACK < session.free_from:
        return []
    removed = world.put(operation.place, Session(fence=session.fence))
    removed = removed.leading(operation.place, None)
    return [removed] if removed != world else []


def _prune_key(world: World, operation: Operation) -> list[World]:
    """What ``prune`` may do to one key: drop it, if it is old and leads to nothing stored."""
    owner, _ = operation.place
    key = world.keys.get(operation.place)
    if key is None or not _is_old(key.changed, operation) or world[owner, key.session_id].exists:
        return []
    return [world.bound(operation.place, None)]


def _is_old(changed: float, operation: Operation) -> bool:
    seconds: float = operation.arguments["seconds"]
    return operation.ret + _SLACK > changed - _TICK + seconds


def _bind_key(world: World, operation: Operation) -> list[World]:
    new_id = operation.arguments["new_id"]
    bound = world.keys.get(operation.place)
    if bound is not None:
        return [world] if operation.gives(bound.session_id) else []
    fits = operation.gives(new_id)
    return [world.bound(operation.place, Key(new_id, operation.call))] if fits else []


def _move_key(world: World, operation: Operation) -> list[World]:
    key = Key(operation.arguments["session_id"], operation.call)
    return [world.bound(operation.place, key)]


def _drop_key(world: World, operation: Operation) -> list[World]:
    fits = operation.gives(operation.place in world.keys)
    return [world.bound(operation.place, None)] if fits else []


def _reading(look: Callable[[World, Operation], Any]) -> Callable[[World, Operation], list[World]]:
    """Return the step of an operation that changes nothing, and answers what ``look`` returns."""
    return lambda world, operation: [world] if operation.gives(look(world, operation)) else []


def _load(world: World, operation: Operation) -> Any:
    session = world[operation.place]
    limit = operation.arguments["limit"]
    texts = [row.text for row in session.history]
    newest = texts if limit is None else texts[max(len(texts) - limit, 0) :]
    return [newest, len(texts), session.exists, session.deleted]


def _find_turn(world: World, operation: Operation) -> Any:
    session = world[operation.place]
    turn_id = operation.arguments["turn_id"]
    texts = _turn(session, turn_id)
    if not texts:
        return None
    standing = [at for at, row in enumerate(session.history) if row.turn == turn_id]
    return [list(texts), standing[0] if len(standing) == len(texts) else None]


def _read_archived(world: World, operation: Operation) -> Any:
    return [list(old) for old in world[operation.place].archive]


def _info(world: World, operation: Operation) -> Any:
    session = world[operation.place]
    return [len(session.history), session.parent] if session.exists else None


def _list(world: World, operation: Operation) -> Any:
    return sorted(
        [session_id, len(session.history)]
        for (owner, session_id), session in world.sessions.items()
        if owner == operation.place[0] and session.exists
    )


def _find_key(world: World, operation: Operation) -> Any:
    key = world.keys.get(operation.place)
    return None if key is None else key.session_id


def _see(world: World, operation: Operation) -> Any:
    session = world[operation.place]
    return (session.exists, session.deleted, session.history, session.archive, session.parent)


_STEPS: dict[str, Callable[[World, Operation], list[World]]] = {
    "append": _append,
    "rewind": _rewind,
    "compact": _compact,
    "fork": _fork,
    "rotate": _rotate,
    "delete": _delete,
    "acquire": _acquire,
    "extend": _extend,
    "release": _release,
    "prune_session": _prune_session,
    "prune_key": _prune_key,
    "bind_key": _bind_key,
    "move_key": _move_key,
    "drop_key": _drop_key,
    "load": _reading(_load),
    "find_turn": _reading(_find_turn),
    "archived": _reading(_read_archived),
    "info": _reading(_info),
    "list": _reading(_list),
    "find_key": _reading(_find_key),
    "see": _reading(_see),
}
READS = frozenset({"load", "find_turn", "archived", "info", "list", "find_key", "see"})
