"""Processes of 0.1.0 and of this version work over one database, while it is migrated and after."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, create_engine

from hermes_session_mw import MemoryStore, SQLAlchemyStore, migrations
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.testing.helpers import numbered
from tests.support.old_tables import OLD_PACKAGE
from tests.support.own_databases import own_database
from tests.support.server import ROOT
from tests.support.version_worker import SHARED, TURNS, read

WORKER = ROOT / "tests" / "support" / "version_worker.py"


@pytest.fixture
def anyio_backend() -> str:
    """The event loop on this side, as in the processes."""
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql+psycopg", "mysql+pymysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database."""
    with own_database(request, request.param, tmp_path) as made:
        yield made


def command(url: URL, *words: str) -> list[str]:
    """Return the command of a worker."""
    return [sys.executable, "-P", str(WORKER), url.render_as_string(hide_password=False), *words]


def importing(package: Path) -> dict[str, str]:
    """Return the variables with which a worker imports the package from there."""
    return {**os.environ, "PYTHONPATH": str(package)}


@dataclass
class Writer:
    """A process that writes, and what it has acknowledged."""

    process: "subprocess.Popen[str]"
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return what was acknowledged; of a process that was killed, all whole lines."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    async def goes_on(self, count: int = 12) -> None:
        """Wait until so many more operations were acknowledged."""
        before = len(self.lines())
        with anyio.fail_after(240):
            while len(self.lines()) < before + count:  # nobody tells
                assert self.process.poll() is None, self.process.communicate()[1]
                await anyio.sleep(0.02)

    def stored(self) -> list[str]:
        """Return the names of the messages that were acknowledged."""
        return [name for line in self.lines() for name in line["stored"]]

    async def sessions(self, store: SQLAlchemyStore) -> list[str]:
        """Return the id of the process's own session, which its last rotation may have moved."""
        return [await store.find_key(self.log.stem) or self.lines()[-1]["own"]]


@pytest.fixture
def start(url: URL, tmp_path: Path) -> Iterator[Callable[[str, Path], Writer]]:
    """Start processes that write, under names of their own; at the end they are killed."""
    started: list[Writer] = []

    def start(name: str, package: Path) -> Writer:
        log = tmp_path / f"{name}.log"
        process = subprocess.Popen(
            command(url, name, str(log)),
            env=importing(package),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Writer(process, log))
        return started[-1]

    yield start
    for writer in started:
        writer.process.kill()
        writer.process.communicate()


async def use_what_is_new(store: SQLAlchemyStore) -> None:
    """Write what only this version has: over sessions of its own, and over the shared one."""
    ids = ["a", "b", "c"]
    assert await store.append("new", numbered(0, 3), message_ids=ids, metadata={"of": "now"}) == 3
    assert await store.append("new", numbered(1, 3), message_ids=["b", "c", "d"]) == 4
    assert await store.append("new", numbered(8), replace_from=3) == 4
    assert await store.pop("new") == numbered(8)
    await store.set_metadata(SHARED, {"shared": True})
    assert store.expiry is not None
    await store.expiry.set(SHARED, timedelta(days=1))
    await store.build_search_index()
    await store.begin_answer("asked", "answer", [{"name": "question"}], lease=300)
    await store.write_events("asked", "answer", 1, ['{"event": 1}'], fence=1, lease=300)


async def check_what_is_new(store: SQLAlchemyStore) -> None:
    """What `use_what_is_new` wrote is there, whatever 0.1.0 did meanwhile."""
    found = await store.load_range("new")
    assert [(each.message, each.message_id) for each in found.messages] == list(
        zip(numbered(0, 3), "abc", strict=True)
    )
    assert (found.metadata, await store.find_metadata(SHARED)) == ({"of": "now"}, {"shared": True})
    assert await store.append("new", numbered(9), message_ids=["a"]) == 3
    assert store.expiry is not None
    assert (await store.expiry.find(SHARED)).own == timedelta(days=1)
    for name in ("old", "other", "late", "new"):
        newest = (await store.search("", name, limit=1)).hits
        assert [hit.session_id for hit in newest] == [SHARED]
    running = await store.find_answer("answer")
    assert running is not None
    assert running.state == "running"


async def test_processes_of_0_1_0_go_on_beside_this_version(
    url: URL, start: Callable[[str, Path], Writer], tmp_path: Path
) -> None:
    """Before, during and after the migration nothing acknowledged is lost or doubled.

    Each version reads what the other wrote, a lease of one keeps the other out, and a check of the
    store finds nothing.
    """
    old, other = start("old", OLD_PACKAGE), start("other", OLD_PACKAGE)
    await old.goes_on()
    await other.goes_on()
    assert not is_complete(url)
    store = SQLAlchemyStore(url, timeout=240, search=True, expires_after=timedelta(days=30))
    await use_what_is_new(store)  # the first use migrates
    assert is_complete(url)
    late, new = start("late", OLD_PACKAGE), start("new", ROOT)
    writers = [old, other, late, new]
    for writer in writers:
        await writer.goes_on()
    other.process.kill()  # in the midst of anything
    other.process.wait()
    for writer in (old, late, new):
        await writer.goes_on()
        writer.process.kill()
        writer.process.wait()
    await check_what_is_new(store)
    own = [each for writer in writers for each in await writer.sessions(store)]
    seen = await read(store, SHARED, TURNS, *own)
    with anyio.fail_after(240):
        seen_by_old = await anyio.run_process(
            command(url, "read", *seen), env=importing(OLD_PACKAGE), cwd=tmp_path
        )
    check_seen(seen, json.loads(seen_by_old.stdout))
    check_messages(seen, writers)
    await store.aclose()
    admin = AdminStore(url, access="read")
    assert await admin.check_integrity(lambda _count: None) == []
    await admin.aclose()


def check_seen(seen: dict[str, Any], seen_by_old: dict[str, Any]) -> None:
    """0.1.0 sees the same, but for times: it has seconds on SQLite, and exports no message's."""
    assert seen.keys() == seen_by_old.keys()
    for session_id, session in seen.items():
        old = seen_by_old[session_id]
        assert old.pop("times") == pytest.approx(session["times"], abs=1)
        rows = [{key: row[key] for key in ("turn_id", "message")} for row in session["export"]]
        without_times = {key: session[key] for key in ("title", "messages", "archived")}
        assert old == {**without_times, "export": rows}


def check_messages(seen: dict[str, Any], writers: list[Writer]) -> None:
    """Each acknowledged message is in a history or an archive, once; turns are whole."""
    found = Counter(
        message["name"]
        for session in seen.values()
        for message in (*session["messages"], *(message for message, _ in session["archived"]))
    )
    acknowledged = [name for writer in writers for name in writer.stored()]
    assert [name for name in acknowledged if found[name] != 1] == []
    assert [name for name, count in found.items() if count > 1] == []
    turns = [message["name"].split("-") for message in seen[TURNS]["messages"]]
    halves = [turns[place : place + 2] for place in range(0, len(turns), 2)]
    assert len(halves) > len(writers)
    for turn in halves:
        assert [part for _, part in turn] == ["1", "2"][: len(turn)]
        assert len({name for name, _ in turn}) == 1


def is_complete(url: URL) -> bool:
    """Tell whether the tables are those of this version."""
    engine = create_engine(url)
    with engine.connect() as connection:
        complete = migrations.is_complete(connection)
    engine.dispose()
    return complete


IMPORT = """
import sys, anyio
from hermes_session_mw import MemoryStore

async def main():
    store = MemoryStore()
    sys.stdout.write(await store.export(await store.import_(sys.stdin.read())))

anyio.run(main)
"""


async def test_0_1_0_imports_an_export_of_this_version(tmp_path: Path) -> None:
    """It stores the same session, and leaves out what it does not know."""
    store = MemoryStore()
    await store.append("s", numbered(0, 2), turn_id="t", message_ids=["a", "b"])
    await store.set_metadata("s", {"of": "now"})
    lines = await store.export("s")
    assert "updated_at" in lines.splitlines()[0]
    assert "created_at" in lines.splitlines()[1]
    with anyio.fail_after(240):
        done = await anyio.run_process(
            [sys.executable, "-P", "-c", IMPORT],
            input=lines.encode(),
            env=importing(OLD_PACKAGE),
            cwd=tmp_path,
        )
    again = done.stdout.decode()
    head, *rows = (json.loads(line) for line in again.splitlines())
    assert [head["id"], *rows] == ["s", *({"turn_id": "t", "message": m} for m in numbered(0, 2))]
    assert await store.import_(again, session_id="back") == "back"
    assert (await store.load("back")).messages == numbered(0, 2)


ROTATE = """
import sys, anyio
from hermes_session_mw import SQLAlchemyStore

anyio.run(SQLAlchemyStore(sys.argv[1], timeout=240).rotate, "before", "after")
"""


async def test_a_rotation_by_0_1_0_leaves_what_it_does_not_know(url: URL, tmp_path: Path) -> None:
    """The messages are moved, without metadata, ids and settings; the session goes on."""
    store = SQLAlchemyStore(url, timeout=240, search=True, expires_after=timedelta(days=30))
    assert store.expiry is not None
    await store.append("before", [{"content": "Lisbon"}], message_ids=["a"], metadata={"a": "b"})
    await store.expiry.set("before", timedelta(days=1))
    with anyio.fail_after(240):
        await anyio.run_process(
            [sys.executable, "-P", "-c", ROTATE, url.render_as_string(hide_password=False)],
            env=importing(OLD_PACKAGE),
            cwd=tmp_path,
        )
    assert (await store.load("before")).deleted
    assert (await store.load("after")).messages == [{"content": "Lisbon"}]
    assert await store.find_metadata("after") is None
    assert await store.find_message("a") is None
    assert (await store.expiry.find("after")).own is None
    assert [hit.session_id for hit in (await store.search("", "lisbon")).hits] == ["after"]
    assert await store.append("after", numbered(1), message_ids=["a"]) == 2
    await store.aclose()
    admin = AdminStore(url, access="read")
    problems = await admin.check_integrity(lambda _count: None)
    await admin.aclose()
    assert [(each.what, each.session_id) for each in problems] == [
        ("there is no message for 1 ids", "before")  # as the docs say
    ]
