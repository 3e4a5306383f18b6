"""What workers write down: a line before each operation, and a line after it.

A worker that is killed leaves one operation without its second line: it may have been done, at any
time after its first line, or not.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.long.torture.model.contract import OPEN, Operation, Place

WORLDS = 2
OWNERS = [f"world-{number}-{letter}" for number in range(WORLDS) for letter in "ab"]
SESSIONS = [f"s{number}" for number in range(5)]
KEYS = [f"k{number}" for number in range(2)]

IN_DOUBT = frozenset({"StoreTimeout", "AppendInDoubt"})
WITHOUT_EFFECT = frozenset({"StoreUnavailable"})

Write = Callable[[dict[str, Any]], None]


def world_of(owner: str) -> str:
    """Return the world that an owner is in; nothing that is done goes from one to another."""
    return owner.rpartition("-")[0]


def writing(path: Path) -> Write:
    """Return what writes lines to ``path``, each whole or not at all."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(line: dict[str, Any]) -> None:
        os.write(file, json.dumps(line).encode() + b"\n")

    return write


class Reader:
    """Reads a journal from where it was left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines that are new; one that is not whole yet is left for later."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def operations(worker: str, lines: Iterable[dict[str, Any]]) -> Iterator[Operation]:
    """Yield what the lines of one worker tell of, parts of ``prune`` one by one.

    Raises:
        AssertionError: it is nothing that a worker writes, or an error that no store may raise.
    """
    begun: dict[int, dict[str, Any]] = {}
    for line in lines:
        if "call" in line:
            begun[line["number"]] = line
        elif "ret" in line:
            yield from _operation(worker, begun.pop(line["number"]), line)
    for line in begun.values():
        yield from _operation(worker, line, {"ret": OPEN})


def _operation(worker: str, begun: dict[str, Any], ended: dict[str, Any]) -> Iterator[Operation]:
    error = None if ended.get("error") is None else tuple(ended["error"])
    ret = ended["ret"]
    if error is not None and error[0] in WITHOUT_EFFECT:
        return
    if error is not None and error[0] in IN_DOUBT:
        error, ret = None, OPEN
    name, given = begun["name"], begun["arguments"]
    by = f"{worker}.{begun['number']}"
    if name == "prune":
        assert error is None, error
        assert ret == OPEN or ended["value"] >= 0
        for kind, places in _PRUNED:
            for place in places:
                yield Operation(kind, place, given, begun["call"], ret, may_be_left_out=True, by=by)
        return
    place = begun["place"][0], begun["place"][1]
    yield Operation(
        name,
        place,
        given,
        begun["call"],
        ret,
        value=ended.get("value"),
        error=error,
        may_be_left_out=ret == OPEN,
        by=by,
    )


def places(names: Sequence[str]) -> list[Place]:
    """Return each owner's place with each of the names."""
    return [(owner, name) for owner in OWNERS for name in names]


_PRUNED = [("prune_session", places(SESSIONS)), ("prune_key", places(KEYS))]
