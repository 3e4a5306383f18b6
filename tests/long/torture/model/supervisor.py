"""Several workers on one database: started, stopped, killed, replaced, and held against the model.

They work in windows. At a window's end all are done and have closed their stores, so that what is
stored can be looked at as a whole; that is where the next window begins.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore
from tests.long.torture.checker import Outcome
from tests.long.torture.model import search
from tests.long.torture.model.calls import call
from tests.long.torture.model.contract import (
    LONGEST_LEASE,
    READS,
    Key,
    Operation,
    Place,
    Session,
    World,
)
from tests.long.torture.model.journal import (
    IN_DOUBT,
    KEYS,
    OWNERS,
    SESSIONS,
    WITHOUT_EFFECT,
    Reader,
    operations,
    places,
    world_of,
)
from tests.long.torture.writers import unmeasured
from tests.support import mariadb, postgres
from tests.support.server import ROOT
from tests.support.signals import held_back

WORKERS = 4
PER_WORKER = 80
"""Operations of each worker in a window."""

_PATIENCE = 240.0
"""Seconds that a window may take."""

_RUNS_ON_TRIO = ("sqlite", "postgresql+psycopg", "mysql+pymysql")


@dataclass(frozen=True)
class ModelOutcome(Outcome):
    """How a run ended: all that was done fits into an order; ``rounds`` are windows."""

    details: str

    def __str__(self) -> str:
        return f"{self.rounds} windows; {self.details}"


@dataclass
class Counts:
    """What was done.

    Attributes:
        acknowledged: operations that write, by their names, that the store said were done.
        refused: errors of the tree that say that nothing was done, by their names.
    """

    windows: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0
    killed: int = 0
    stopped: int = 0

    def outcome(self, seed: int) -> ModelOutcome:
        """Return the outcome; whatever is acknowledged has its place in the order."""
        details = (
            f"{self.acknowledged.total()} acknowledged: {_listed(self.acknowledged)}; "
            f"{self.reads} reads; {self.refused.total()} refused: {_listed(self.refused)}; "
            f"{self.in_doubt} in doubt; {self.killed} workers killed, {self.stopped} stopped; "
            f"seed {seed}"
        )
        count = self.acknowledged.total()
        unavailable = sum(self.refused[name] for name in WITHOUT_EFFECT)
        return ModelOutcome(self.windows, count, count, self.in_doubt, unavailable, details)

    def count(self, lines: Iterable[dict[str, Any]]) -> None:
        """Count what the lines of a worker tell of."""
        names: dict[int, str] = {}
        for line in lines:
            if "call" in line:
                names[line["number"]] = line["name"]
            elif "ret" in line:
                self._count_one(names.pop(line["number"]), line.get("error"))
        self.in_doubt += len(names)

    def _count_one(self, name: str, error: list[Any] | None) -> None:
        if error is not None and error[0] in IN_DOUBT:
            self.in_doubt += 1
        elif error is not None:
            self.refused[error[0]] += 1
        elif name in READS:
            self.reads += 1
        else:
            self.acknowledged[name] += 1


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"


class _Process:
    """One worker: its process, and its journal."""

    def __init__(self, url: URL, number: int, seed: int, folder: Path) -> None:
        self.name = f"w{number}"
        journal, self._errors = folder / f"{self.name}.jsonl", folder / f"{self.name}.err"
        journal.touch()
        self._reader = Reader(journal)
        self._lines: list[dict[str, Any]] = []
        self._said: set[tuple[str, str]] = set()
        trio = url.drivername in _RUNS_ON_TRIO and number % 2
        timeout = 2 if number % 3 == 2 else 30
        with self._errors.open("wb") as errors, held_back():
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.long.torture.model.worker"),
                    "trio" if trio else "asyncio",
                    url.render_as_string(hide_password=False),
                    *(self.name, f"{seed}-{number}", str(journal), str(timeout)),
                ],
                stdin=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=unmeasured(),
                start_new_session=True,  # Ctrl-C is for us, who then kill it
            )

    def begin(self, window: str, count: int) -> None:
        """Have it do so many operations."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{window} {count}\n".encode())
        self._process.stdin.flush()

    def has_said(self, word: str, value: str) -> bool:
        """Tell whether it has written such a line.

        Raises:
            AssertionError: it has ended by itself.
        """
        self._read()
        said = (word, value) in self._said
        if not said and self._process.poll() is not None:
            raise AssertionError(f"{self.name} ended by itself:\n{self._errors.read_text()}")
        return said

    def take_lines(self) -> list[dict[str, Any]]:
        """Return the lines since the last time."""
        self._read()
        lines, self._lines = self._lines, []
        return lines

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, which has not been waited for yet."""
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _read(self) -> None:
        for line in self._reader.lines():
            self._lines.append(line)
            self._said |= {(word, line[word]) for word in ("ready", "done") if word in line}


class Supervisor:
    """Runs windows, from the beginning of the block to its end.

    Attributes:
        counts: what was done in them.
    """

    def __init__(self, url: URL, folder: Path, *, seed: int, per_worker: int) -> None:
        self.counts = Counts()
        self._seed = seed
        self._url = url
        self._folder = folder
        self._per_worker = per_worker
        self._random = random.Random(seed)
        self._started = 0
        self._running: list[_Process] = []
        self._dead: list[_Process] = []
        self._stopped: dict[_Process, float] = {}
        self._fences: Counter[Place] = Counter()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        # Which makes the tables: what comes of several that make them at once is shown elsewhere.
        self._seen = anyio.run(_look, self._url)
        try:
            for _ in range(WORKERS):
                self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()

    def run_window(self) -> None:
        """Let the workers do their operations, look at what is stored, and check all of it.

        Raises:
            AssertionError: it does not fit together, or a worker ended by itself.
        """
        window = f"{self.counts.windows}"
        began = time.monotonic()
        deadline = began + _PATIENCE
        self._wait_until(deadline, lambda each: each.has_said("ready", each.name))
        for process in self._running:
            process.begin(window, self._per_worker)
        self._disturb(window, deadline)
        _wait_for_connections(self._url, deadline)
        seen = anyio.run(_look, self._url)
        self._check(began, seen)
        self._seen = seen
        self.counts.windows += 1

    def _start(self) -> None:
        process = _Process(self._url, self._started, self._seed, self._folder)
        self._running.append(process)
        self._started += 1

    def _wait_until(self, deadline: float, is_so: Callable[[_Process], bool]) -> None:
        while not all(is_so(each) for each in self._running):
            assert time.monotonic() < deadline, "a worker does not get on"
            time.sleep(0.02)

    def _disturb(self, window: str, deadline: float) -> None:
        """Stop workers and kill some, until the others are done."""
        newcomers: list[_Process] = []
        kills = self._random.randint(0, self._per_worker // 25)
        while True:
            self._continue(time.monotonic())
            busy = [
                each
                for each in self._running
                if each not in newcomers and not each.has_said("done", window)
            ]
            if not busy:
                return
            assert time.monotonic() < deadline, "a worker does not get on"
            time.sleep(self._random.uniform(0.005, 0.1))
            victim = self._random.choice(busy)
            if kills and self._random.random() < 0.2:
                kills -= 1
                self._kill(victim)
                self._start()
                newcomers.append(self._running[-1])
            elif victim not in self._stopped and self._random.random() < 0.3:
                self._stop(victim)

    def _kill(self, process: _Process) -> None:
        self._stopped.pop(process, None)
        process.kill()
        self._running.remove(process)
        self._dead.append(process)
        self.counts.killed += 1

    def _stop(self, process: _Process) -> None:
        longest = self._random.choice([0.1, 0.3, 3 * LONGEST_LEASE])
        process.signal(signal.SIGSTOP)
        self._stopped[process] = time.monotonic() + self._random.uniform(0.01, longest)
        self.counts.stopped += 1

    def _continue(self, now: float) -> None:
        for process in [each for each, until in self._stopped.items() if until <= now]:
            process.signal(signal.SIGCONT)
            del self._stopped[process]

    def _check(self, began: float, seen: "_Seen") -> None:
        done: list[Operation] = []
        for process in (*self._running, *self._dead):
            lines = process.take_lines()
            self.counts.count(lines)
            done += operations(process.name, lines)
        self._dead.clear()
        done += seen.operations()
        for world in sorted({world_of(owner) for owner in OWNERS}):
            begin = self._seen.world(world, self._fences, self._began, began)
            own = [each for each in done if world_of(each.place[0]) == world]
            try:
                search.check(begin, own)
            except search.NoOrder as exc:
                raise AssertionError(f"seed {self._seed}, {world}: {exc}") from None
        for each in done:
            if each.name == "acquire" and each.value is not None:
                self._fences[each.place] = max(self._fences[each.place], each.value)


@dataclass(frozen=True)
class _Seen:
    """What was stored at a moment when nobody wrote."""

    at: float
    sessions: dict[Place, Any]
    keys: dict[Place, str | None]

    def operations(self) -> Iterator[Operation]:
        """Yield it as operations, which come after all others."""
        for place, value in self.sessions.items():
            yield Operation("see", place, {}, self.at, self.at, value=value)
        for place, leads_to in self.keys.items():
            yield Operation("find_key", place, {}, self.at, self.at, value=leads_to)

    def world(self, name: str, fences: Counter[Place], began: float, now: float) -> World:
        """Return one world, as the model knows it then.

        Who has the turn, and when something was changed, cannot be seen: it may be held still, and
        be as old as the run, which began at ``began``.
        """
        held_until = now + LONGEST_LEASE
        sessions = {
            place: Session(*value)._replace(
                fence=fences[place], held_until=held_until, changed=began
            )
            for place, value in self.sessions.items()
            if world_of(place[0]) == name
        }
        keys = {
            place: Key(leads_to, began)
            for place, leads_to in self.keys.items()
            if world_of(place[0]) == name and leads_to is not None
        }
        return World(sessions, keys)


async def _look(url: URL) -> _Seen:
    store = SQLAlchemyStore(url, timeout=60)
    at = time.monotonic()
    sessions = {place: await call(store, "see", place, {}) for place in places(SESSIONS)}
    keys = {place: await store.find_key(place[1], place[0]) for place in places(KEYS)}
    await store.aclose()
    return _Seen(at, sessions, keys)


_OTHERS = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ),
    "mysql": (
        "SELECT count(*) FROM information_schema.processlist "
        "WHERE db = database() AND id <> connection_id()"
    ),
}


def _wait_for_connections(url: URL, deadline: float) -> None:
    """Wait until no connection of a worker is left, whose server side may still be at work."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return
    connect: Any = {"postgresql": postgres.connect, "mysql": mariadb.connect}[backend]
    with connect(url) as connection, connection.cursor() as cursor:
        while True:
            cursor.execute(_OTHERS[backend])
            if cursor.fetchone()[0] == 0:
                return
            assert time.monotonic() < deadline, "a killed worker's connection stays"
            time.sleep(0.02)


def check_against_the_model(url: URL, folder: Path, operations: int, seed: int) -> ModelOutcome:
    """Have workers do random operations until so many are acknowledged, and check all of them.

    ``seed`` is what the choices come from; how the processes meet is another matter each time.
    """
    deadline = time.monotonic() + 120 + operations / 2
    # So that a short dose has more than one window too.
    per_worker = max(min(PER_WORKER, operations // WORKERS), 1)
    with Supervisor(url, folder, seed=seed, per_worker=per_worker) as supervisor:
        counts = supervisor.counts
        while counts.acknowledged.total() < operations:
            supervisor.run_window()
            assert time.monotonic() < deadline, f"too slow: {counts}"
    return counts.outcome(seed)
