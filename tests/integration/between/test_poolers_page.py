"""What becomes of a store with something between it and its database, by each driver.

The tables of docs/deployment.md are what these runs gave. After a change that is meant, write them
anew with ``make poolers``.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import Any, Literal, NamedTuple

import anyio
import pytest
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore
from tests.integration.between import killed, programs
from tests.integration.clusters import galera, standby
from tests.support import mariadb, pgbouncer, postgres
from tests.support.requirements import needs, needs_driver
from tests.support.server import ROOT

PAGE = ROOT / "docs" / "deployment.md"
BEGIN, END = "<!-- make poolers writes from here -->\n", "<!-- to here -->\n"
WRITES = bool(os.environ.get("HERMES_WRITE_POOLERS"))
AT_ONCE = int(os.environ.get("HERMES_POOLERS_AT_ONCE", "2"))

DRIVERS = ("psycopg", "psycopg_async", "asyncpg", "psycopg2")
ON_MARIADB = ("pymysql", "asyncmy")
NAMES = {
    "psycopg": {"prepare_threshold": 1},
    "psycopg_async": {"prepare_threshold": 1},
    "asyncpg": {"statement_cache_size": 100},
}
"""What asks for named statements; psycopg2 has none."""

Mode = Literal["transaction", "session", "statement"]
Case = dict[str, Any]
Cells = dict[str, list[str]]


class Row(NamedTuple):
    """A row of the page.

    Attributes:
        name: what the page calls it.
        missing: returns what has to be installed first, if anything.
        cases: starts it, before PostgreSQL's server, and yields its cases.
        killed: returns the cells, where something is killed, in the place of ``cases``.
        drivers: the table's columns.
        by_chance: whether the step that fails depends on which connection is had, or on the clock.
    """

    name: str
    missing: Callable[[], str | None]
    cases: Callable[[URL], Any] | None = None
    killed: Callable[[], list[str]] | None = None
    drivers: tuple[str, ...] = DRIVERS
    by_chance: bool = False

    def __str__(self) -> str:
        return re.sub(r"\W+", "-", self.name).strip("-")


def case(driver: str, url: URL, direct: URL | None = None, **more: Any) -> Case:
    """Return a case of the probe."""
    if direct is not None:
        more["direct"] = direct.render_as_string(hide_password=False)
    url = url.set(drivername=f"{url.get_backend_name()}+{driver}")
    return {"url": url.render_as_string(hide_password=False), **more}


@contextmanager
def by_pgbouncer(
    server: URL,
    *,
    mode: Mode,
    newer: bool,
    names: bool = False,
    settings: str = "",
) -> Iterator[list[Case]]:
    """Yield the cases behind a PgBouncer, each with a database of its own."""
    program = str(programs.NEWER_PGBOUNCER) if newer else None
    with (
        pgbouncer.own_pooler(server, mode, program=program, settings=settings) as pooler,
        ExitStack() as stack,
    ):
        cases = []
        for driver in DRIVERS:
            own = stack.enter_context(postgres.database(server))
            url = pooler.url.set(database=own.database)
            arguments = NAMES.get(driver, {}) if names else {}
            cases.append(case(driver, url, own, arguments=arguments))
        yield cases


@contextmanager
def by_pgpool(server: URL, settings: str = "") -> Iterator[list[Case]]:
    """Yield the cases behind a pgpool-II with one server; one case's pool dies with it."""
    with ExitStack() as stack:
        cases = []
        for driver in DRIVERS:
            own = stack.enter_context(postgres.database(server))
            url = stack.enter_context(programs.own_pgpool([own], balances=False, settings=settings))
            cases.append(case(driver, url, own))
        yield cases


@contextmanager
def by_balancing_pgpool(_server: URL) -> Iterator[list[Case]]:
    """Yield the cases behind a pgpool-II that reads from a standby, which is late."""
    with standby.pair() as both:
        urls = []
        for driver in DRIVERS:
            both.primary.execute(f"CREATE DATABASE {driver}")
            urls.append(both.primary.url.set(database=driver))
            anyio.run(_make_tables, urls[-1])
        after = both.primary.execute("SELECT pg_current_wal_lsn()")[0][0]
        both.standby.wait_for(f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{after}'")
        both.standby.execute("SELECT pg_wal_replay_pause()")
        servers = [both.primary.url, both.standby.url]
        with programs.own_pgpool(servers, balances=True) as url:
            yield [
                case(each.database or "", url.set(database=each.database), each) for each in urls
            ]


@contextmanager
def by_pglite(_server: URL, *, connections: int = 1, **more: Any) -> Iterator[list[Case]]:
    """Yield the cases with a PGlite each, whose socket takes so many connections."""
    with ExitStack() as stack:
        cases = []
        for driver in DRIVERS:
            own = stack.enter_context(programs.own_pglite(f"--max-connections={connections}"))
            direct = own.url if connections > 1 else None
            cases.append(case(driver, own.url, direct, **more))
        yield cases


@contextmanager
def by_haproxy(_server: URL, *, balances: bool) -> Iterator[list[Case]]:
    """Yield the cases behind a HAProxy before three nodes, each with a database of its own."""
    # The lock of a row is its node's, and another node's append does not wait for it.
    without = ["a wait that ends"] if balances else []
    with (
        galera.cluster() as cluster,
        programs.own_haproxy(cluster.urls, balances=balances) as url,
    ):
        cases = []
        for driver in ON_MARIADB:
            mariadb.execute(url, f"CREATE DATABASE hermes_{driver}")
            own, direct = (each.set(database=f"hermes_{driver}") for each in (url, cluster.urls[0]))
            cases.append(case(driver, own, direct, without=without))
        yield cases


async def _make_tables(url: URL) -> None:
    store = SQLAlchemyStore(url)
    await store.load("none")
    await store.aclose()


def _rows() -> Iterator[Row]:
    named = "named statements asked for"
    for newer in (False, True):
        missing = programs.missing_newer_pgbouncer if newer else programs.missing_pgbouncer
        program = "PgBouncer, newer" if newer else "PgBouncer"
        modes: tuple[Mode, ...] = ("session", "transaction", "statement")
        for mode in modes:
            start = partial(by_pgbouncer, mode=mode, newer=newer)
            yield Row(f"{program}, `{mode}`", missing, start)
        kept = (0, 200) if newer else (None,)
        for count in kept:
            settings = "" if count is None else f"max_prepared_statements = {count}\n"
            told = "" if count is None else f", `max_prepared_statements={count}`"
            start = partial(
                by_pgbouncer, mode="transaction", newer=newer, names=True, settings=settings
            )
            yield Row(
                f"{program}, `transaction`{told}, {named}", missing, start, by_chance=count != 200
            )
    stays = "backend_flag0 = 'DISALLOW_TO_FAILOVER'\n"
    yield Row("pgpool-II", programs.missing_pgpool, by_pgpool)
    yield Row(
        "pgpool-II, `DISALLOW_TO_FAILOVER`",
        programs.missing_pgpool,
        partial(by_pgpool, settings=stays),
    )
    yield Row(
        "pgpool-II, `load_balance_mode=on`, a late standby",
        programs.missing_pgpool,
        by_balancing_pgpool,
        by_chance=True,
    )
    yield from _pglite_rows()
    for balances, name in ((False, "`backup`"), (True, "`balance leastconn`")):
        missing = programs.missing_haproxy
        start = partial(by_haproxy, balances=balances)
        yield Row(f"HAProxy, {name}", missing, start, drivers=ON_MARIADB)
        kill = partial(killed.nodes_killed, balances, ON_MARIADB)
        yield Row(f"HAProxy, {name}, a node killed", missing, killed=kill, drivers=ON_MARIADB)


def _pglite_rows() -> Iterator[Row]:
    missing = programs.missing_pglite
    elsewhere = ["an answer elsewhere", "two processes"]
    yield Row("PGlite", missing, by_pglite)
    one = partial(by_pglite, threads=1, without=elsewhere)
    yield Row("PGlite, `threads=1`, one process", missing, one)
    yield Row("PGlite, `threads=1`, two processes", missing, partial(by_pglite, threads=1))
    many = partial(by_pglite, connections=20, without=["a closed connection"])
    yield Row("PGlite, `--max-connections=20`", missing, many)
    kill = partial(killed.pglite_killed, DRIVERS)
    yield Row("PGlite, `threads=1`, killed and started again", missing, killed=kill)


ROWS = list(_rows())


def found(row: Row, server: URL) -> tuple[list[str], str]:
    """Run a row; return its cells, and how answers elsewhere are followed."""
    if row.killed is not None:
        return row.killed(), ""
    assert row.cases is not None
    with row.cases(server) as cases:
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.between.probe", json.dumps(cases)],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=1500,
        )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(cases), done.stderr[-4000:]
    followers = {line["followers"] for line in lines} - {""}
    cells = [seen(line["failed"], by_chance=row.by_chance) for line in lines]
    return cells, "/".join(sorted(followers))


CURES = {
    "pool_mode": "`pool_mode`",
    "prepare_threshold": "`prepare_threshold`, `statement_cache_size`",
    "as many connections": "`threads`",
}


def seen(failed: str | None, *, by_chance: bool) -> str:
    """Tell the step that failed, by which error, and what that names to change."""
    if failed is None:
        return "works"
    step, error, text = failed.split(": ", 2)
    named = next((f", names {cure}" for words, cure in CURES.items() if words in text), "")
    if error == "ValueError":
        # What is compared is a history, or the list's ids.
        error = "not read back" if text.startswith(("[] is not", "set() is not")) else text
    if error == "Elsewhere":
        error = text.split(": ")[0]
    if error == "StoreTimeout" and named:
        # It is one, of which the last attempt was slower than those before.
        error = "StoreUnavailable"
    return f"{error}{named}" if by_chance else f"{step}: {error}{named}"


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, postgres_server: URL) -> Iterator[dict[str, Future[Any]]]:
    """The rows that are asked for, each run some time: a few at once, for they wait a lot."""
    asked = [item.callspec.params.get("row") for item in request.session.items
             if hasattr(item, "callspec") and item.path == request.path]  # fmt: skip
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            row.name: pool.submit(found, row, postgres_server)
            for row in asked
            if row is not None and row.missing() is None
        }


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Every row, filled in as the tests run."""
    return {}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_becomes_of_a_store(row: Row, runs: dict[str, Future[Any]], cells: Cells) -> None:
    """Each driver works, or fails by an error that is the page's."""
    missing = row.missing()
    if missing is not None and row.missing is programs.missing_newer_pgbouncer:
        pytest.skip(missing)  # what cannot be had everywhere
    needs(missing)
    needs_driver("postgresql+psycopg2")
    told, followers = runs[row.name].result()
    cells[row.name] = [*told, followers]
    if not WRITES:
        assert read_page()[row.name] == cells[row.name]


def test_the_page_has_a_row_for_each_pooler(cells: Cells) -> None:
    """`make poolers` writes them."""
    if WRITES:
        all_cells = read_page() | cells  # of a run by -k, the others' as they are
        before, rest = PAGE.read_text().split(BEGIN)
        table = [f"\n{_versions()}"]
        for drivers in (DRIVERS, ON_MARIADB):
            rows = [row for row in ROWS if row.drivers == drivers]
            table += [
                f"\n| | {' | '.join(f'`+{driver}`' for driver in drivers)} | followers |",
                f"|{'---|' * (len(drivers) + 2)}",
                *(f"| {row.name} | {' | '.join(all_cells[row.name])} |" for row in rows),
            ]
        table.append("\n")
        PAGE.write_text(f"{before}{BEGIN}{chr(10).join(table)}{END}{rest.split(END)[1]}")
    shown = {name: len(row) for name, row in read_page().items()}
    assert shown == {row.name: len(row.drivers) + 1 for row in ROWS}


def _versions() -> str:
    day = datetime.now(UTC).date()
    machines = pgbouncer.binary()
    assert machines is not None
    of_python = ", ".join(
        f"{name} {metadata.version(package)}"
        for name, package in (
            ("SQLAlchemy", "sqlalchemy"), ("psycopg", "psycopg"),
            ("asyncpg", "asyncpg"), ("psycopg2", "psycopg2-binary"), ("PyMySQL", "pymysql"),
            ("asyncmy", "asyncmy"),
        )
    )  # fmt: skip
    pglite = programs.pglite_versions()
    return (
        f"Seen on {day}, with PgBouncer {programs.version(machines)} and "
        f"{programs.version(programs.NEWER_PGBOUNCER)} (newer), pgpool-II "
        f"{programs.version(programs.pgpool() or '')}, PGlite {pglite['pglite']} (pglite-socket "
        f"{pglite['pglite-socket']}), HAProxy {programs.version(programs.haproxy() or '')}, "
        f"MariaDB {programs.version(mariadb.binary() or '')} with Galera "
        f"{programs.galera_version()}; {of_python}."
    )


def read_page() -> Cells:
    """Return the rows of the page's table."""
    shown: Cells = {}
    for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines():
        if line.startswith(("| P", "| pg", "| HA")):
            name, *rest = [cell.strip() for cell in line.split("|")[1:-1]]
            shown[name] = rest
    return shown
