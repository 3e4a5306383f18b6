"""Uses a store by one driver, in a process of its own, and prints what became of it.

``python -m tests.integration.drivers.probe URL [--module NAME] [--anyway]``: ``--module`` is what
is imported in the place of ``sqlite3``, and ``--anyway`` leaves out what refuses a driver. The line
is JSON: ``refused`` is the refusal's text; else ``failed`` is the first step that failed and how,
or null.
"""

import argparse
import importlib
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy import make_url

from hermes_session_mw import ConfigurationError, SessionConflict, SQLAlchemyStore
from hermes_session_mw.database import connection_settings, drivers
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.sqlalchemy import executor_factory
from tests.support import mariadb, postgres

SAID: list[Message] = [{"role": "user", "content": 'It\'s "a\\b" %s :x \u00e9 \U0001d11e\n'}]
LARGE: list[Message] = [{"role": "user", "content": "x\\'" * 200_000}]
PATIENCE = 60
"""Seconds that a step may take."""


class Steps:
    """The core of the store contract, a step after the other, on one conversation."""

    def __init__(self, store: SQLAlchemyStore, url: str) -> None:
        self.store = store
        self.url = make_url(url)

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the steps by what the page calls them."""
        return {
            "the first append": self.append,
            "a repeated turn": self.repeat,
            "a conflict": self.conflict,
            "a large message": self.large,
            "20 appends at once": self.many,
            "a list": self.list,
            "a closed connection": self.closed,
        }

    async def append(self) -> None:
        """What was stored comes back as it was."""
        check(await self.store.append("a", SAID), 1)
        check((await self.store.load("a")).messages, SAID)

    async def repeat(self) -> None:
        """A turn id is stored once."""
        for _ in range(2):
            check(await self.store.append("a", SAID, turn_id="one"), 2)

    async def conflict(self) -> None:
        """A length that is not the conversation's is a conflict."""
        try:
            await self.store.append("a", SAID, expected_length=1)
        except SessionConflict:
            return
        raise ValueError("no conflict")

    async def large(self) -> None:
        """A message of a megabyte comes back."""
        check(await self.store.append("large", LARGE), 1)
        check((await self.store.load("large")).messages, LARGE)

    async def many(self) -> None:
        """Each of many appends at once has a place of its own."""
        lengths: list[int] = []

        async def one() -> None:
            lengths.append(await self.store.append("many", SAID))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
        check(sorted(lengths), list(range(1, 21)))

    async def list(self) -> None:
        """The sessions are listed."""
        page = await self.store.list()
        check({each.id for each in page.sessions}, {"a", "large", "many"})

    async def closed(self) -> None:
        """A server that closes what the pool keeps costs nothing."""
        await anyio.to_thread.run_sync(self._close_all)
        check(await self.store.append("a", SAID), 3)
        check((await self.store.load("a")).length, 3)

    def _close_all(self) -> None:
        if self.url.get_backend_name() == "postgresql":
            with postgres.connect(self.url) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        elif self.url.get_backend_name() == "mysql":
            with mariadb.connect(self.url) as other, other.cursor() as cursor:
                cursor.execute(
                    "SELECT id FROM information_schema.processlist "
                    "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
                )
                for (number,) in cursor.fetchall():
                    cursor.execute(f"KILL {number}")


def check(found: object, expected: object) -> None:
    """Raise ``ValueError`` for what is not as expected: ``python -O`` leaves no assert."""
    if found != expected:
        raise ValueError(f"{str(found)[:80]} is not {str(expected)[:80]}")


def accept(driver: str) -> None:
    """Leave out what refuses a driver, and another module than ``sqlite3``."""
    for names in ("sqlite", "postgresql", "mysql", "mariadb"):
        drivers._DRIVERS[names] = (*drivers._DRIVERS[names], driver)
    drivers._PACKAGES.setdefault(driver, driver)
    factory: Any = executor_factory
    settings: Any = connection_settings
    factory.check_options = factory.check_engine = lambda _: None
    settings.sqlite3 = SimpleNamespace(Connection=object)


async def use(url: str, options: dict[str, Any], driver: str | None) -> dict[str, str | None]:
    """Take the steps, and tell the first that failed."""
    if driver is not None:
        accept(driver)
    try:
        store = SQLAlchemyStore(url, engine_options=options, timeout=20)
    except ConfigurationError as exc:
        return {"refused": str(exc)}
    steps = Steps(store, url)
    for name, step in steps.all().items():
        try:
            with anyio.fail_after(PATIENCE):
                await step()
        except BaseException as exc:  # noqa: BLE001  # whatever it is, it is told
            return {"failed": f"{name}: {told(exc)}"}
    await store.aclose()
    return {"failed": None}


def told(exc: BaseException) -> str:
    """Tell an error by its class and its first line, of a group the first's."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}"[:500]


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--module")
    parser.add_argument("--anyway", action="store_true")
    options = parser.parse_args()
    given = {"module": importlib.import_module(options.module)} if options.module else {}
    driver = make_url(options.url).drivername.partition("+")[2] or "pysqlite"
    found = anyio.run(use, options.url, given, driver if options.anyway else None)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
