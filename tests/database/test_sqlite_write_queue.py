"""The queue of those who write to one SQLite file: it decides who is next, and keeps nobody out."""

import fcntl
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import SQLAlchemyStore, StoreUnavailable
from hermes_session_mw.database.sqlite_file import (
    LockFile,
    LockWaiter,
    WriteQueue,
    WriteTicket,
)
from hermes_session_mw.testing.helpers import numbered
from tests.support.no_threads import refuse_threads
from tests.support.open_files import open_files
from tests.support.server import ROOT
from tests.support.waits import store_waiting


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A database's path, whose file nobody else may write to."""
    database = tmp_path / "sessions.db"
    database.touch(0o644)
    return str(database)


@contextmanager
def locking(path: str) -> Iterator[None]:
    """Hold the side file's lock, as a process may that opened it and went away."""
    with Path(f"{path}-turns").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Hold SQLite's own lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def comes(condition: Callable[[], bool]) -> bool:
    """Tell whether it holds soon."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def waiting_threads() -> int:
    """Return how many threads wait for a lock."""
    return sum(thread.name == "hermes-session-queue" for thread in threading.enumerate())


def is_late(ticket: WriteTicket) -> bool:
    """Tell whether the ticket did not come in time."""
    return ticket.is_late


async def test_a_queue_that_stands_still_keeps_no_writer_out(
    path: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that keeps the side file's lock costs one writer its patience, and no other."""
    waits: list[float] = []
    wait = LockWaiter.wait

    def note(waiter: LockWaiter, seconds: float) -> bool:
        waits.append(seconds)
        return wait(waiter, seconds)

    monkeypatch.setattr(LockWaiter, "wait", note)
    store = store_waiting(monkeypatch, 2.7, sqlite_url)
    await store.append("id", numbered(0))
    with locking(path):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, "id", numbered(1))
            assert (await store.load("id")).length == 1
        for number in range(2, 10):
            assert await store.append("id", numbered(number)) == number + 1
        assert len(waits) == 1
        assert waiting_threads() == 1
        await store.aclose()
        assert await store.append("id", numbered(10)) == 11
        assert len(waits) == 1
    assert comes(lambda: waiting_threads() == 0)
    with locking(path):  # it went on, so that it is waited for again
        assert await store.append("id", numbered(11)) == 12
    assert len(waits) == 2
    await store.aclose()


async def test_a_writer_that_is_late_does_not_wait_again(
    path: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the queue stands still and another writes, that is told in time, and heals."""
    store = store_waiting(monkeypatch, 1.8, sqlite_url)
    await store.append("id", numbered(0))
    with locking(path), writing(path):
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="another writer holds the lock"):
                await store.append("id", numbered(1))
        assert (await store.load("id")).length == 1
    with locking(path):
        assert await store.append("id", numbered(1)) == 2
    # A connection that was late once waits as before.
    executor = store._executor
    with executor._engine.connect() as connection:  # type: ignore[attr-defined]  # the threads'
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 1800
    await store.aclose()


STOPPED = """
import sys, anyio
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.transactions import transaction

async def main():
    store = SQLAlchemyStore(sys.argv[1], timeout=60)
    await store.append("id", [{"by": "the other"}])

    def work(database):
        from hermes_session_mw.stores.sqlalchemy.statements.append import add_messages
        with transaction(database):
            print("in a transaction", flush=True)
            sys.stdin.readline()

    await store._executor.run(work, writes=True, seconds=60)
    print(await store.append("id", [{"by": "the other"}]))
    await store.aclose()

anyio.run(main)
"""


async def test_a_writer_that_is_stopped_costs_one_thread(
    path: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many appends wait for a stopped process, they share a thread and a file, and heal."""
    Path(path).unlink()
    patient = SQLAlchemyStore(sqlite_url, timeout=60)
    store = store_waiting(monkeypatch, 0.25, sqlite_url)
    await patient.append("id", numbered(0))
    with subprocess.Popen(  # noqa: ASYNC220  # for a moment
        [sys.executable, "-c", STOPPED, sqlite_url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "in a transaction\n"
        other.send_signal(signal.SIGSTOP)
        try:
            threads, files = set[int](), set[int]()
            before = set(threading.enumerate())  # those of the test before may still be ending
            for number in range(16):
                with pytest.raises(StoreUnavailable):
                    await store.append("id", numbered(number), turn_id=f"t{number}")
                threads.add(len(set(threading.enumerate()) - before))
                files.add(open_files(path))
            assert waiting_threads() == 1
            assert max(threads) - min(threads) <= 1
            assert max(files) - min(files) <= 1
        finally:
            other.send_signal(signal.SIGCONT)
        assert other.communicate("\n")[0].strip() >= "3"  # one that was not waited for may be first
    for number in range(16):
        await patient.append("id", numbered(number), turn_id=f"t{number}")
    assert comes(lambda: waiting_threads() == 0)
    first, *rest = (await patient.load("id")).messages
    assert first == {"n": 0}
    assert [message for message in rest if "by" in message] == [{"by": "the other"}] * 2
    assert sorted(message["n"] for message in rest if "n" in message) == [*range(16)]
    await patient.aclose()
    await store.aclose()


async def test_without_a_side_file_writers_go_on(
    tmp_path: Path, path: str, sqlite_url: str
) -> None:
    """Where the side file cannot be made, SQLite's own lock is enough."""
    Path(f"{path}-turns").mkdir()
    store = SQLAlchemyStore(sqlite_url)
    assert await store.append("id", numbered(0)) == 1
    await store.aclose()


async def test_a_link_is_no_side_file(tmp_path: Path, path: str, sqlite_url: str) -> None:
    """A link where the side file should be leads nowhere: what it names is left alone."""
    other = tmp_path / "other"
    other.touch(0o644)
    Path(f"{path}-turns").symlink_to(other)
    store = SQLAlchemyStore(sqlite_url)
    assert await store.append("id", numbered(0)) == 1
    await store.aclose()
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("database", "side"),
    [(0o600, 0o600), (0o644, 0o600), (0o664, 0o660), (0o660, 0o660), (0o666, 0o666)],
)
def test_who_may_write_may_stand_in_line(path: str, database: int, side: int) -> None:
    """The side file is for those alone who may write to the database, and is made so where not."""
    Path(path).chmod(database)
    turns = Path(f"{path}-turns")
    for found in (None, 0o644, 0o666, 0o600):
        if found is not None:
            turns.chmod(found)
        LockFile(path)
        assert stat.S_IMODE(turns.stat().st_mode) == side


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_side_file_belongs_to_whom_the_database_does(path: str) -> None:
    """Made by root, the side file can be used by the database's owner, as SQLite's own can."""
    os.chown(path, 65534, 65534)
    LockFile(path)
    status = Path(f"{path}-turns").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65534)


GROUP = """
import os, sys
from hermes_session_mw.database.sqlite_file import LockFile
if os.geteuid() == 0:
    os.chown(os.path.dirname(sys.argv[1]), 65534, -1)
    os.setgroups([])
    os.setegid(65533)
    os.seteuid(65534)
LockFile(sys.argv[1])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_group_that_may_not_write_may_not_stand_in_line(path: str) -> None:
    """Where the side file cannot be given to the database's group, no other group may use it."""
    os.chown(path, 0, 0)
    Path(path).chmod(0o664)
    folder = Path("/tmp") / f"hermes-queue-{os.getpid()}"  # tmp_path is root's alone
    folder.mkdir()
    try:
        database = Path(path).rename(folder / "sessions.db")
        subprocess.run([sys.executable, "-c", GROUP, str(database)], cwd=ROOT, check=True)
        status = (folder / "sessions.db-turns").stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (65533, 0o600)
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_a_ticket_is_had_by_one_after_the_other(path: str) -> None:
    """Of many threads over several files none has a ticket while another has one."""
    queues = [WriteQueue(path, 60) for _ in range(4)]
    inside: list[int] = []
    most: list[int] = []

    def write(queue: WriteQueue) -> None:
        for _ in range(25):
            ticket = queue.ticket()
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.0005)
            inside.pop()
            ticket.end()
            ticket.end()

    writers = [threading.Thread(target=write, args=(queue,)) for queue in queues]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert most == [1] * 100
    assert comes(lambda: waiting_threads() == 0)


def test_who_gives_up_leaves_the_place_to_the_next(path: str) -> None:
    """One thread waits for all; who was given the ticket while giving up has it."""
    first, queue = WriteQueue(path, 0), WriteQueue(path, 0.01)
    held = first.ticket()
    assert not is_late(held)
    for _ in range(3):
        assert is_late(queue.ticket())
        assert waiting_threads() == 1
    came: list[WriteTicket] = []
    patient = [threading.Thread(target=lambda: came.append(queue.ticket())) for _ in range(2)]
    queue._timeout = 60
    for thread in patient:
        thread.start()
    waiter = queue._waiter
    assert waiter is not None
    assert comes(lambda: len(waiter._waiting) == 2)
    assert waiting_threads() == 1
    held.end()
    assert comes(lambda: len(came) == 1)
    assert not is_late(came[0])
    came[0].end()
    for thread in patient:
        thread.join()
    came[1].end()
    assert [is_late(ticket) for ticket in came] == [False, False]
    assert waiter.wait(-1) in (True, False)
    assert comes(lambda: waiting_threads() == 0)
    queue.close()
    assert queue._waiter is None


def test_a_ticket_that_comes_at_the_last_moment_is_had(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gives up while the lock comes has it, and does not leave it locked for nobody."""
    waiter = LockWaiter(LockFile(path))

    class Late(threading.Event):
        """An event that is waited for in vain, and is set right after."""

        def wait(self, timeout: float | None = None) -> bool:
            super().wait(timeout)
            return False

    monkeypatch.setattr(threading, "Event", Late)
    assert waiter.wait(60)
    waiter.release()
    assert not WriteQueue(path, 0).ticket()._late_in


def test_without_a_thread_writers_go_on(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread to wait with, SQLite's own lock is enough."""
    held = WriteQueue(path, 0).ticket()
    queue = WriteQueue(path, 60)
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        ticket = queue.ticket()
        assert not is_late(ticket)
        ticket.end()
    held.end()
    assert not is_late(queue.ticket())


def test_a_ticket_ends_with_its_process(path: str) -> None:
    """A writer that is killed while it has the ticket keeps nobody waiting."""
    holder = (
        "import sys, time\n"
        "from hermes_session_mw.database.sqlite_file import WriteQueue\n"
        "ticket = WriteQueue(sys.argv[1], 1).ticket()\n"
        "print('had', flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "had\n"
        queue = WriteQueue(path, 0.05)
        assert is_late(queue.ticket())
        process.kill()
        queue._timeout = 30
        assert not is_late(queue.ticket())


def test_a_forked_child_stands_in_line_itself(path: str) -> None:
    """A child that was forked does not go on its parent's ticket, nor waits with its thread."""
    queue = WriteQueue(path, 0.05)
    held = queue.ticket()
    child = os.fork()
    if child == 0:
        os._exit(0 if is_late(queue.ticket()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    held.end()
    assert not is_late(queue.ticket())


@pytest.mark.parametrize(("closed_in", "is_first"), [("try_lock", True), ("wait", False)])
def test_a_queue_that_is_closed_gets_back_the_lock_it_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_in: str, is_first: bool
) -> None:
    """A store that is closed as a writer gets its ticket leaves it the ticket, and its end."""
    path = str(tmp_path / "db")
    before, queue = LockFile(path), WriteQueue(path, 60)
    kind = LockFile if is_first else LockWaiter
    original = getattr(kind, closed_in)

    def close_after(*arguments: Any) -> Any:
        if not is_first:
            before.unlock()
        had = original(*arguments)
        queue.close()
        return had

    if not is_first:
        before.lock()
    with monkeypatch.context() as patched:
        patched.setattr(kind, closed_in, close_after)
        ticket = queue.ticket()
    ticket.end()
    assert before.try_lock()
    before.unlock()
