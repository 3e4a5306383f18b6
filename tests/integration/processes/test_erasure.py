"""An owner is erased beside processes that write, by one that is killed halfway and by a second."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL, create_engine, inspect, text

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.testing.helpers import numbered
from tests.integration.processes.test_two_versions import importing, url
from tests.support.old_tables import OLD_PACKAGE
from tests.support.server import ROOT

__all__ = ["url"]  # a fixture

BEFORE = "said before the erasure"
SESSIONS = 120

# Appends to each session, moves messages to the archive, and some sessions to other ids.
WRITER = f"""
import itertools, sys, anyio
from hermes_session_mw import SessionConflict, SessionDeleted, SessionNotFound, SQLAlchemyStore

async def main(url, name):
    store = SQLAlchemyStore(url, timeout=60)
    for number in itertools.count():
        session_id = f"s{{number % {SESSIONS}:03}}"
        try:
            length = await store.append(session_id, [{{"said": "later"}}], "ada")
            await store.rewind(session_id, length - 2, "ada") if length > 2 else None
            if number % 5 == 0:
                await store.rotate(session_id, f"{{name}}-{{number}}", "ada")
        except (SessionConflict, SessionDeleted, SessionNotFound):
            pass
        print(number, flush=True)

anyio.run(main, *sys.argv[1:])
"""

# Is killed in the midst of its third transaction.
ERASER = """
import os, signal, sys, anyio
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.statements import erase_owner

remove, calls = erase_owner._remove, 0

def killed(*arguments):
    global calls
    calls += 1
    removed = remove(*arguments)
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return removed

erase_owner._remove = killed
anyio.run(SQLAlchemyStore(sys.argv[1], timeout=60).erase_owner, "ada")
"""


@pytest.fixture
def anyio_backend() -> str:
    """The event loop on this side, as in the processes."""
    return "asyncio"


@pytest.fixture
def start(url: URL, tmp_path: Path) -> Iterator[Callable[[str, Path], Callable[[], int]]]:
    """Start processes that write, and return what tells how often they have."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, package: Path) -> Callable[[], int]:
        log = tmp_path / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", WRITER, named(url), name],
                env=importing(package),
                cwd=tmp_path,
                stdout=out,
            )
        started.append(process)

        def written() -> int:
            assert process.poll() is None
            return log.read_bytes().count(b"\n")

        return written

    yield start
    for process in started:
        process.kill()
        process.wait()


async def test_nothing_stays_of_what_was_there_before(
    url: URL, start: Callable[[str, Path], Callable[[], int]], tmp_path: Path
) -> None:
    """Beside writers of this version and of 0.1.0 a second erasure ends what a killed one began.

    What was there before is gone, wherever it was moved meanwhile; who writes goes on, and another
    owner's session is whole.
    """
    store = SQLAlchemyStore(url, timeout=60)
    for number in range(SESSIONS):
        turn = [{"said": f"{BEFORE} {n}"} for n in range(25)]
        await store.append(f"s{number:03}", turn, "ada")
    await store.append("s000", numbered(0, 3), "bob")
    writers = [start("old", OLD_PACKAGE), start("new", ROOT)]
    await go_on(writers)
    killed = await anyio.run_process(
        [sys.executable, "-P", "-c", ERASER, named(url)],
        env=importing(ROOT),
        cwd=tmp_path,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = count(url)
    assert 0 < left < SESSIONS * 25 * 2 // 3
    await go_on(writers)
    receipt = await store.erase_owner("ada")
    assert receipt.messages + receipt.archived >= left
    assert count(url) == 0
    await go_on(writers)
    assert count(url) == 0
    assert (await store.load("s000", "bob")).messages == numbered(0, 3)
    await store.aclose()


async def go_on(writers: list[Callable[[], int]]) -> None:
    """Wait until each has written something more."""
    for written in writers:
        before = written()
        with anyio.fail_after(120):
            while written() < before + 10:  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(0.02)


def count(url: URL) -> int:
    """Return how many rows have what was there before."""
    engine, found = create_engine(url), 0
    with engine.connect() as connection:
        for name in inspect(connection).get_table_names():
            for row in connection.execute(text(f"SELECT * FROM {name}")):  # a table's
                found += any(BEFORE in str(value) for value in row)
    engine.dispose()
    return found


def named(url: URL) -> str:
    """Return the URL as a text."""
    return url.render_as_string(hide_password=False)
