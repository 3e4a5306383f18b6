"""What can happen to a SQLite file, and to many processes that write to one."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import SQLAlchemyStore, StoreCorrupt, StoreError, StoreUnavailable
from hermes_session_mw.database import sqlite_file
from hermes_session_mw.database.workers import worker_pool
from hermes_session_mw.testing.helpers import numbered
from tests.support.server import ROOT

DRIVERS = [("sqlite", "asyncio"), ("sqlite", "trio"), ("sqlite+aiosqlite", "asyncio")]
every_driver = pytest.mark.parametrize(("driver", "anyio_backend"), DRIVERS)
SUFFIXES = ("", "-wal", "-shm")


@pytest.fixture(autouse=True)
def every_reader_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the file looked for at each load, however soon one comes after the other."""
    monkeypatch.setattr(sqlite_file, "_STAT_INTERVAL", -1)


async def test_a_number_that_no_driver_takes_locks_nothing(sqlite_url: str) -> None:
    """Where a driver refuses a value inside a transaction, the next writer waits for nobody."""
    store = SQLAlchemyStore(sqlite_url)
    await store.append("id", numbered(0))
    for _ in range(3):
        with pytest.raises(StoreError, match="OverflowError"):
            await store.release("id", 2**70)
        assert await store.append("id", numbered(1)) > 1
    await store.aclose()


async def test_a_writer_always_looks_and_readers_learn_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers look for the file now and then, writers each time, and all see what one has seen."""
    monkeypatch.setattr(sqlite_file, "_STAT_INTERVAL", 3600)
    monkeypatch.setattr(worker_pool, "_IDLE_AFTER", 3600)  # each thread keeps its connection
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.append("id", numbered(0))
    assert (await store.load("id")).length == 1
    move(tmp_path, tmp_path / "away")
    assert (await store.load("id")).length == 1  # it was there a moment ago
    with pytest.raises(StoreUnavailable, match="gone"):
        await store.append("id", numbered(1))
    with pytest.raises(StoreUnavailable, match="gone"):
        await store.load("id")
    await store.aclose()


async def test_a_writer_that_cannot_connect_tells_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a reader has the only connection, it learns from the writer that finds no file."""
    monkeypatch.setattr(sqlite_file, "_STAT_INTERVAL", 3600)
    store: Any = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.append("id", numbered(0))
    with anyio.fail_after(60):
        while store._executor._engine.pool.checkedout():  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.01)
    monkeypatch.setattr(worker_pool, "_IDLE_AFTER", 3600)
    assert (await store.load("id")).length == 1  # by the writer's connection
    move(tmp_path, tmp_path / "away")
    assert (await store.load("id")).length == 1
    for operation in (store.append("id", numbered(1)), store.load("id")):
        with pytest.raises(StoreUnavailable, match="gone"):
            await operation
    await store.aclose()


def url_of(driver: str, folder: Path) -> str:
    return f"{driver}:///{folder}/sessions.db"


def move(source: Path, target: Path) -> None:
    """Move the database, with the files that SQLite keeps beside it."""
    target.mkdir()
    for suffix in SUFFIXES:
        if (file := source / f"sessions.db{suffix}").exists():
            file.rename(target / file.name)


@every_driver
async def test_a_vanished_file_is_not_made_anew(driver: str, tmp_path: Path) -> None:
    """Nothing is read from a deleted file or acknowledged in it; put back, it is used again."""
    store = SQLAlchemyStore(url_of(driver, tmp_path))
    await store.append("id", numbered(0))
    move(tmp_path, tmp_path / "away")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="gone, and is not created again"):
            await store.load("id")
        with pytest.raises(StoreUnavailable, match="gone, and is not created again"):
            await store.append("id", numbered(1))
        await store.aclose()
    assert not (tmp_path / "sessions.db").exists()
    for suffix in SUFFIXES:
        if (file := tmp_path / "away" / f"sessions.db{suffix}").exists():
            file.rename(tmp_path / file.name)
    assert await store.append("id", numbered(1)) == 2
    await store.aclose()


@every_driver
async def test_a_file_put_in_the_place_is_the_database(driver: str, tmp_path: Path) -> None:
    """A backup that is put back under a running process is what is read and written from then."""
    backup = tmp_path / "backup"
    backup.mkdir()
    other = SQLAlchemyStore(url_of(driver, backup))
    await other.append("id", numbered(0, 5))
    await other.aclose()
    store = SQLAlchemyStore(url_of(driver, tmp_path))
    await store.append("id", numbered(0))
    move(tmp_path, tmp_path / "away")
    (backup / "sessions.db").rename(tmp_path / "sessions.db")
    assert (await store.load("id")).length == 5
    assert await store.append("id", numbered(5)) == 6
    await store.aclose()
    assert (await store.load("id")).length == 6
    await store.aclose()


@every_driver
async def test_a_file_that_rots_is_corrupt(driver: str, tmp_path: Path) -> None:
    """A file that is overwritten while it is in use is told as corrupt, and stays as it is."""
    store = SQLAlchemyStore(url_of(driver, tmp_path))
    await store.append("id", numbered(0, 200))
    await store.aclose()
    await store.load("id")
    file = tmp_path / "sessions.db"
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * (file.stat().st_size - 4096))
    rotten = file.read_bytes()
    with pytest.raises(StoreCorrupt, match="keep the file as it is"):
        await store.append("id", numbered(0, 200))
    assert file.read_bytes() == rotten
    await store.aclose()


async def test_a_new_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That a file was not there and is made says the log; that it is opened again does not."""
    caplog.set_level(logging.INFO, "hermes_session_mw")
    for _ in range(2):
        store = SQLAlchemyStore(url_of("sqlite", tmp_path))
        await store.load("id")
        await store.aclose()
    assert ["a new SQLite file" in record.getMessage() for record in caplog.records] == [True]


async def test_a_file_may_be_named_by_a_uri(tmp_path: Path) -> None:
    """A SQLite URI is watched over like a plain path, with odd characters in it too."""
    folder = tmp_path / "a b"
    folder.mkdir()
    for url in (
        f"sqlite:///file:{tmp_path}/a%20b/sessions.db?uri=true",
        f"sqlite:///{folder}/what # is.db",
    ):
        store = SQLAlchemyStore(url)
        await store.append("id", numbered(0))
        await store.aclose()
        assert (await store.load("id")).length == 1
        for file in folder.iterdir():
            file.unlink()
        with pytest.raises(StoreUnavailable, match="gone"):
            await store.load("id")
        await store.aclose()


READ_ONLY = """
import os, sys, anyio
from hermes_session_mw import SQLAlchemyStore, StoreUnavailable

folder = sys.argv[1]

def allow(mode):
    for name in os.listdir(folder):
        os.chmod(f"{folder}/{name}", mode)

async def main():
    warm = SQLAlchemyStore("sqlite://")
    await warm.append("id", [{}])  # imports what is imported late, as the user who may
    if os.geteuid() == 0:  # whom no mode keeps from writing
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    store = SQLAlchemyStore(f"sqlite:///{folder}/sessions.db")
    await store.append("id", [{}])
    await store.aclose()
    allow(0o444)
    for _ in range(2):
        assert (await store.load("id")).length == 1
        try:
            await store.append("id", [{}])
        except StoreUnavailable as exc:
            print(exc)
    allow(0o644)
    print(await store.append("id", [{}]))
    await store.aclose()

anyio.run(main)
"""


def test_a_read_only_file_heals(tmp_path: Path) -> None:
    """A file that became read-only is read, refuses to be written, and heals without a restart."""
    folder = Path("/tmp") / f"hermes-read-only-{os.getpid()}"  # tmp_path is root's alone
    folder.mkdir()
    try:
        command = [sys.executable, "-c", READ_ONLY, str(folder)]
        # Who has become nobody cannot write down what was measured.
        plain = {name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE")}
        done = subprocess.run(
            command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False
        )
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert (done.returncode, done.stderr) == (0, "")
    *errors, length = done.stdout.splitlines()
    assert ["SQLITE_READONLY" in error and "writable" in error for error in errors] == [True] * 2
    assert length == "2"


QUEUEING = """
import sys, anyio
from hermes_session_mw import SQLAlchemyStore

async def main():
    store = SQLAlchemyStore(sys.argv[1])
    await store.load("id")
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(60):
        before = (await store.load("id", limit=0)).length
        after = await store.append("id", [{}])
        print(after - before - 1, flush=True)
    await store.aclose()

anyio.run(main)
"""


def test_writers_of_many_processes_wait_in_turn(tmp_path: Path) -> None:
    """Of 8 writing processes none waits for more than 10 times as many others as the mean one.

    Where something else has the processor, whoever should wake up may do so late: the best of
    six. Without the queue the worst waits for 60 and more.
    """
    assert any(_worst_wait(tmp_path, f"{run}.db") <= 10 for run in range(6))


def _worst_wait(folder: Path, name: str) -> float:
    """Return how many others' turns the worst wait was, as a multiple of the mean."""
    command = [sys.executable, "-c", QUEUEING, f"sqlite:///{folder / name}"]
    writers = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    others = [int(line) for writer in writers for line in writer.communicate()[0].split()]
    assert [writer.returncode for writer in writers] == [0] * 8
    assert len(others) == 8 * 60
    return max(others) * len(others) / sum(others)


KILLED = """
import os, sys, anyio
from hermes_session_mw import SQLAlchemyStore

async def main():
    store = SQLAlchemyStore(sys.argv[1])
    await store.append("id", [{"n": 0}])
    await store.aclose()  # which brings the file up to date
    await store.append("id", [{"n": 1}])
    os._exit(0)  # as if killed: nothing is closed

anyio.run(main)
"""


async def test_a_removed_wal_takes_what_was_acknowledged_with_it(
    tmp_path: Path, sqlite_url: str
) -> None:
    """Without the -wal that a killed process left, its last turns are gone, and nothing says so."""
    command = [sys.executable, "-c", KILLED, sqlite_url]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: ASYNC221  # for a moment
    kept = tmp_path / "kept"
    kept.mkdir()
    for suffix in SUFFIXES:
        shutil.copy(tmp_path / f"sessions.db{suffix}", kept)
    (tmp_path / "sessions.db-wal").unlink()
    for folder, length in ((tmp_path, 1), (kept, 2)):
        store = SQLAlchemyStore(url_of("sqlite", folder))
        assert (await store.load("id")).messages == numbered(0, length)
        await store.aclose()


async def test_a_wal_that_is_removed_from_under_a_process_keeps_others_out(
    tmp_path: Path, sqlite_url: str
) -> None:
    """The process that has it open goes on and loses nothing; others are told until it closes."""
    store = SQLAlchemyStore(sqlite_url)
    await store.append("id", numbered(0))
    await store.load("id")
    (tmp_path / "sessions.db-wal").unlink()
    assert await store.append("id", numbered(1)) == 2
    other = SQLAlchemyStore(sqlite_url)
    with pytest.raises(StoreUnavailable, match="SQLITE_IOERR_SHORT_READ"):
        await other.load("id")
    await store.aclose()
    assert (await other.load("id")).messages == numbered(0, 2)
    await other.aclose()
