"""Counts the files that an operation passes through: ``python -m benchmarks.paths``.

Every call of one of the package's functions is noted, in all threads together, in the order in
which they happen. A *switch* is a call into another file than the call before it. Fewer of them
mean less to open for somebody who follows a request through the code.
"""

import gc
import io
import itertools
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
from starlette.types import Message, Receive, Scope, Send

import hermes_session_mw
from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore
from hermes_session_mw.cli.app import cli

PACKAGE = Path(hermes_session_mw.__file__).parent
QUESTION = {"role": "user", "content": "Where is the Danube?"}
WARM_UP = 3
"""Requests before those that are counted: the first ones connect, and compile the statements."""

REPEATS = 5
"""Requests that are counted; threads that meet at another moment switch once more or less."""

BY_THE_CLOCK = frozenset(
    {
        ("database/sqlite_file.py", "_stat"),
        ("database/workers/engine_slot.py", "dispose_of_dropped"),
        ("database/workers/engine_slot.py", "give_back"),
        ("database/workers/engine_slot.py", "is_late"),
        ("database/workers/thread_executor.py", "_become_idle"),
        ("database/workers/asyncio_wakeup.py", "_call"),
        ("database/workers/worker_pool.py", "_become_idle"),
        ("database/workers/worker_pool.py", "_deliver"),
        ("database/workers/worker_pool.py", "_next"),
        ("database/workers/worker_pool.py", "_poll"),
        ("database/workers/worker_pool.py", "_poll_later"),
        ("database/workers/thread_executor.py", "_give_back"),
    }
)
"""What is called the more often the longer something takes: how busy a machine is, is no path."""

COMPREHENSIONS = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})
"""What is a call of its own up to Python 3.11 alone."""

Calls = list[tuple[str, str]]
"""The file and the name of each function, in the order of the calls."""


@contextmanager
def recording() -> Iterator[Calls]:
    """Collect the calls of this thread, and of the threads that are started inside."""
    calls: Calls = []
    inside = f"{PACKAGE}/"

    def note(frame: FrameType, event: str, _argument: object) -> None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event != "call" or not file.startswith(inside) or name in COMPREHENSIONS:
            return
        if (call := (file.removeprefix(inside), name)) not in BY_THE_CLOCK:
            calls.append(call)

    gc.collect()  # an older store's threads are ended when it is collected
    gc.disable()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        gc.enable()


def files_of(calls: Calls) -> list[str]:
    """Return the files in the order of their first call."""
    return list(dict.fromkeys(file for file, _ in calls))


def switches_of(calls: Calls) -> int:
    """Return how often a call went into another file than the one before."""
    return sum(before[0] != after[0] for before, after in itertools.pairwise(calls))


async def _answer(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["method"] == "POST":
        await scope["state"]["hermes_session"].append(QUESTION)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def _requests(url: str) -> dict[str, Calls]:
    """Return the calls of three requests."""
    counted: dict[str, Calls] = {}
    with recording() as calls:  # before the store's threads are started
        # A minute, as the command has: on a busy machine the first operation may take five seconds.
        store = SQLAlchemyStore(url, threads=1, timeout=60)
        app = HermesSessionMiddleware(_answer, store, store_timeout=60)
        session_id = await _request(app, "POST")
        for name, method, of in (
            ("load by a known id", "GET", session_id),
            ("load without a header", "GET", None),
            ("append", "POST", session_id),
        ):
            for _ in range(WARM_UP):
                await _request(app, method, of)
            repeated = []
            for _ in range(REPEATS):
                calls.clear()
                await _request(app, method, of)
                repeated.append(list(calls))
            counted[name] = min(repeated, key=switches_of)
        await store.aclose()
    return counted


async def _request(app: Any, method: str, session_id: str | None = None) -> str:
    """Send one request, and return the session's id."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    header = [] if session_id is None else [(b"x-hermes-session-id", session_id.encode())]
    scope = {"type": "http", "method": method, "path": "/", "headers": header, "state": {}}
    await app({**scope, "asgi": {"version": "3.0"}, "query_string": b""}, receive, send)
    return bytes(dict(sent[0]["headers"])[b"x-hermes-session-id"]).decode()


def _prune(file: Path) -> Calls:
    """Return the calls of the command that removes a session."""
    url = f"sqlite:///{file}"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE hermes_sessions SET updated_at = '2001-02-03 04:05:06'")
    with redirect_stdout(io.StringIO()):
        cli(["--store", url, "stats"], standalone_mode=False)  # which imports what it needs
    with recording() as calls, redirect_stdout(io.StringIO()):
        cli(["--store", url, "prune", "--older-than", "1d", "--yes"], standalone_mode=False)
    return calls


def measure() -> dict[str, Calls]:
    """Return the calls of each operation, on a SQLite file of its own."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "paths.db")
        counted = anyio.run(_requests, f"sqlite:///{file}")
        return {**counted, "prune by the command": _prune(file)}


def main() -> None:
    """Print what was counted, and each operation's files in their order."""
    # A thread gives way to another where it waits, and not also wherever its time is up.
    sys.setswitchinterval(60)
    counted = measure()
    line = "{:22} {:>6} {:>6} {:>9}".format
    _print(line("operation", "calls", "files", "switches"))
    for name, calls in counted.items():
        _print(line(name, len(calls), len(files_of(calls)), switches_of(calls)))
    for name, calls in counted.items():
        _print(f"\n{name}:")
        for file in files_of(calls):
            _print(f"  {file} ({sum(called == file for called, _ in calls)})")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
