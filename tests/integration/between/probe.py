"""Uses stores by what stands before their database, in two processes, and prints what became.

``python -m tests.integration.between.probe JSON``: a list of cases, each with its ``url``; with
``direct``, the database's own URL, without which the steps that need one are left out; with the
``arguments`` of the driver's connect, the store's ``threads``, and the steps that it is
``without``. Each case is a line of JSON: ``failed`` is the first step that failed and how, or null;
``followers`` is whether another process's answer is heard of by notifications ("woken"), or read by
polling ("poll").

With ``--other`` it is the other process, which is told what to do by lines of JSON.
"""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy import URL, make_url

from hermes_session_mw import HermesSession, SQLAlchemyStore, StoreTimeout, StoreUnavailable
from hermes_session_mw.testing.answer_writers import begun, until
from tests.integration.drivers.probe import SAID, Steps, check, told
from tests.support import mariadb, postgres
from tests.support.server import ROOT

PATIENCE = 150
"""Seconds that a step may take: the machine may have much else to do."""
TURNS = 5
"""Turns of each of two processes."""
WAIT = 2
"""Seconds that an append waits for a row that is locked."""


Case = dict[str, Any]


def store_of(case: Case, timeout: float = 20) -> SQLAlchemyStore:
    """Return the case's store."""
    given = {"connect_args": case["arguments"]} if case.get("arguments") else {}
    threads = case.get("threads", 4)
    return SQLAlchemyStore(case["url"], engine_options=given, timeout=timeout, threads=threads)


class Elsewhere(Exception):
    """The other process failed."""


class Other:
    """The other process, which does what it is told and prints a line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def tell(self, *order: object) -> None:
        """Have it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()

    async def line(self) -> str:
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        read = self._process.stdout.readline
        return (await anyio.to_thread.run_sync(read, abandon_on_cancel=True)).strip()


class Between(Steps):
    """The core of the contract, and what a pooler or a proxy can break."""

    def __init__(self, case: Case, other: Other) -> None:
        super().__init__(store_of(case), case.get("direct") or case["url"])
        self._case = case
        self._other = other
        self.followers = ""

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the steps by what the page calls them."""
        steps = super().all() | {
            "a turn": self.turn,
            "an answer elsewhere": self.answer,
            "two processes": self.processes,
            "a wait that ends": self.timeout,
        }
        left_out = set(self._case.get("without", ()))
        if not self._case.get("direct"):
            left_out |= {"a closed connection", "a wait that ends"}
        return {name: step for name, step in steps.items() if name not in left_out}

    async def turn(self) -> None:
        """A lease keeps the turn for one, who can write."""
        session = HermesSession(self.store, "turn")
        async with session.turn():
            await session.append(SAID[0])
        check((await self.store.load("turn")).length, 1)

    async def answer(self) -> None:
        """Another process reads each event of an answer."""
        writer = await begun(self.store, "answered", lease=300)
        self._other.tell("follow", self._case, writer.id)
        for number, piece in enumerate("abc", 1):
            await writer.write(number, piece)
            await self._hears(piece)
        self.followers = await self._other.line()
        await writer.end(4)

    async def processes(self) -> None:
        """Two processes take turns, and none is lost or mixed."""
        self._other.tell("write", self._case, "both")
        await write(self.store, "both")
        await self._hears("done")
        stored = (await self.store.load("both")).messages
        check([message["n"] for message in stored], list(range(2 * TURNS)))

    async def _hears(self, expected: str) -> None:
        """Read a line of the other process, which is its error if it failed."""
        line = await self._other.line()
        if line != expected:
            raise Elsewhere(line)

    async def timeout(self) -> None:
        """``timeout`` ends a wait for a lock, and the store goes on."""
        length = await self.store.append("locked", SAID)
        store = store_of(self._case, timeout=WAIT)
        with locked(make_url(self._case["direct"]), "locked"):
            try:
                await store.append("locked", SAID)
            except (StoreTimeout, StoreUnavailable):
                pass
            else:
                raise ValueError("no wait")
        await store.aclose()
        # What was given up may be stored when the lock is had, as the error says.
        check(await self.store.append("locked", SAID) - length in (1, 2), expected=True)


@contextmanager
def locked(direct: URL, session_id: str) -> Iterator[None]:
    """Hold the lock of a session's row, over a connection of our own."""
    if direct.get_backend_name() == "postgresql":
        with postgres.connect(direct) as connection, connection.transaction():
            connection.execute(
                "SELECT 1 FROM hermes_sessions WHERE id = %s FOR UPDATE", [session_id]
            )
            yield
        return
    with mariadb.connect(direct) as other, other.cursor() as cursor:
        other.begin()
        cursor.execute("SELECT 1 FROM hermes_sessions WHERE id = %s FOR UPDATE", [session_id])
        yield
        other.rollback()


async def write(store: SQLAlchemyStore, session_id: str) -> None:
    """Take turns with whoever else writes."""
    for _ in range(TURNS):
        session = HermesSession(store, session_id)
        async with session.turn(wait=PATIENCE):
            await session.append({"n": session.length})


async def follow(store: SQLAlchemyStore, answer_id: str) -> None:
    """Print three events of an answer, and then whether notifications come."""
    listener = store._executor.listener("hermes_answers")
    with store.watch_answer(answer_id, "", lambda: None) as watch:
        await watch.renew()
        for count in range(3):

            async def is_there(count: int = count) -> bool:
                page = await store.read_events(answer_id)
                return page is not None and len(page[1]) > count

            await until(is_there)
            page = await store.read_events(answer_id)
            assert page is not None
            print(json.loads(page[1][count]), flush=True)

        async def is_known() -> bool:
            never = not store._notifies or listener._failures > 0
            return never or await watch.renew()

        await until(is_known)
        print("woken" if await watch.renew() else "poll", flush=True)


async def serve() -> None:
    """Do what the lines say."""
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        order, case, name = json.loads(line)
        store = store_of(case)
        try:
            await (write(store, name) if order == "write" else follow(store, name))
            if order == "write":
                print("done", flush=True)
        except BaseException as exc:  # noqa: BLE001  # whatever it is, it is told
            print(told(exc), flush=True)
        await store.aclose()


async def use(case: Case, other: Other) -> dict[str, str | None]:
    """Take the steps, and tell the first that failed."""
    steps = Between(case, other)
    failed = None
    for name, step in steps.all().items():
        try:
            with anyio.fail_after(PATIENCE):
                await step()
        except BaseException as exc:  # noqa: BLE001  # whatever it is, it is told
            failed = f"{name}: {told(exc)}"
            break
    await steps.store.aclose()
    return {"failed": failed, "followers": steps.followers}


@asynccontextmanager
async def other_process() -> AsyncIterator[Other]:
    """Yield the other process."""
    line = [sys.executable, "-m", "tests.integration.between.probe", "--other"]
    process = subprocess.Popen(  # noqa: ASYNC220  # its pipes are read in threads
        line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Other(process)
    finally:
        process.kill()
        process.wait()


async def main(argument: str) -> None:
    """Print a line for each case; after one that failed its other process is not used again."""
    if argument == "--other":
        await serve()
        return
    for case in json.loads(argument):
        async with other_process() as other:
            print(json.dumps(await use(case, other)), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
