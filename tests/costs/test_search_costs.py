"""What search costs who appends, told in counts: statements, round trips, segments of the index."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text

from hermes_session_mw import SearchOptions, SQLAlchemyStore
from hermes_session_mw.database.connection import DirectDatabase
from hermes_session_mw.stores.sqlalchemy.statements import search, search_index
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support.counting_proxy import counting
from tests.support.own_databases import own_database

pytestmark = pytest.mark.anyio
TURN = numbered(0, 2)


async def statements_of_an_append(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, search: bool
) -> list[str]:
    """Return the methods by which an append executes statements."""
    store = SQLAlchemyStore(f"sqlite:///{path}", threads=1, search=search)
    await store.append("id", TURN)
    seen: list[str] = []
    with monkeypatch.context() as patched:
        for name in ("rows", "run", "command", "commit"):
            patched.setattr(DirectDatabase, name, noting(name, seen))
        await store.append("id", TURN)
    await store.aclose()
    return seen


def noting(name: str, seen: list[str]) -> Callable[..., Any]:
    """Return a method that notes its name and does what it did."""
    method = getattr(DirectDatabase, name)

    def noted(*arguments: Any) -> Any:
        seen.append(name)
        return method(*arguments)

    return noted


async def test_an_append_executes_no_more_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite an append with search executes what one without it does; triggers note it."""
    plain = await statements_of_an_append(tmp_path / "plain.db", monkeypatch, search=False)
    assert await statements_of_an_append(tmp_path / "s.db", monkeypatch, search=True) == plain
    assert "run" in plain


async def round_trips(url: URL, *, search: bool) -> int:
    """Return the round trips of an append."""
    session_id = new_id()
    with counting(url) as (proxy, counted):
        store = SQLAlchemyStore(counted, threads=1, search=search)
        for _ in range(8):  # connected, compiled, prepared
            await store.append(session_id, TURN)
        before = proxy.round_trips
        await store.append(session_id, TURN)
        made = proxy.round_trips - before
        await store.aclose()
    return made


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
async def test_an_append_makes_no_more_round_trips(
    driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """On a server an append with search is as many round trips as without."""
    with own_database(request, driver, tmp_path) as url:
        plain = await round_trips(url, search=False)
        assert await round_trips(url, search=True) == plain
        assert plain


async def test_a_batch_is_one_segment(tmp_path: Path) -> None:
    """FTS5 writes the words of a batch at once, and not each message's as a segment of its own."""
    store: Any = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db", search=True)
    await store.append("id", numbered(0, 100))
    assert await store._write(search_index.index_batch, SearchOptions()) == 100
    count = text("SELECT count(DISTINCT segid) FROM hermes_search_words_idx")
    ((segments,),) = await store._read(lambda database: database.rows(count, {}))
    assert segments == 1
    await store.aclose()


async def test_a_page_reads_no_more_matches_than_it_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many matches a first page reads the newest window's alone, and the messages it shows."""
    monkeypatch.setattr("hermes_session_mw.stores.sqlalchemy.search.WINDOW", 20)
    rows: list[int] = []
    store: Any = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db", search=True)
    await store.append("id", [{"role": "user", "content": "a needle"}] * 100)
    await store._write(search_index.index_batch, SearchOptions())
    find = search.find_matches

    def counted(*arguments: Any, **options: Any) -> Any:
        found = find(*arguments, **options)
        rows.append(len(found))
        return found

    monkeypatch.setattr(search, "find_matches", counted)
    assert len((await store.search("", "needle", limit=5)).hits) == 5
    assert rows == [20]
    await store.aclose()
