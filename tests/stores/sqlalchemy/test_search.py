"""The search of a SQL store, and the index behind it, over each database."""

import itertools
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, MetaData, create_engine, inspect, text

from hermes_session_mw import (
    ConfigurationError,
    Keyring,
    MemoryStore,
    NotSupported,
    SearchOptions,
    SearchStore,
    SQLAlchemyStore,
    StoreMisconfigured,
    migrations,
)
from hermes_session_mw.stores.search_text import is_match, padded, parse_query, words_of
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.statements import search as search_statements
from hermes_session_mw.stores.sqlalchemy.statements import search_index
from tests.support.own_databases import own_database

every_database = pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [
        ("sqlite", "trio"),
        ("postgresql+psycopg", "asyncio"),
        ("mysql+pymysql", "asyncio"),
    ],
)
# An async driver beside them, for each kind of statement.
every_database_and_asyncpg = pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [
        ("sqlite", "trio"),
        ("postgresql+psycopg", "asyncio"),
        ("postgresql+asyncpg", "asyncio"),
        ("mysql+pymysql", "asyncio"),
    ],
)
in_sqlite = pytest.mark.parametrize(("driver", "anyio_backend"), [("sqlite", "trio")])
pytestmark = pytest.mark.anyio


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


@pytest.fixture
async def url(driver: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[URL]:
    with own_database(request, driver, tmp_path) as made:
        yield made


@asynccontextmanager
async def opened(url: URL, **options: Any) -> AsyncIterator[SQLAlchemyStore]:
    store = SQLAlchemyStore(url, **{"search": True, **options})
    try:
        yield store
    finally:
        await store.aclose()


async def index(store: SQLAlchemyStore) -> int:
    """Index what is noted, as an append does after many others."""
    done = await store._write(search_index.index_batch, SearchOptions())
    assert done is not None
    return done


async def execute(store: SQLAlchemyStore, statement: str) -> None:
    """Execute SQL of the test's own."""
    await store._write(lambda database: database.run(text(statement), {}))


async def found(store: SQLAlchemyStore, query: str, owner: str = "", **filters: Any) -> list[Any]:
    page = await store.search(owner, query, **filters)
    return sorted((hit.session_id, hit.index) for hit in page.hits)


async def found_both_ways(store: SQLAlchemyStore, query: str, owner: str = "") -> list[Any]:
    """Return what is found of what is noted, which is the same once that is indexed."""
    noted = await found(store, query, owner)
    await index(store)
    assert await found(store, query, owner) == noted
    return noted


QUERIES = ["weather", "WEATHER paris", '"the weather"', "ther", "天气", "天", "预报", "unicode",
           "hermes-agent", "ai", "a*", "par wea", "nothing", "don't", "天气 wea"]  # fmt: skip


@every_database_and_asyncpg
async def test_each_database_finds_the_same(url: URL) -> None:
    """What is found is what the pure functions say, before the messages are indexed and after."""
    texts = ["How is the weather 天气预报 today?", "the weather in Paris", "Ünïcode: Hermes-Agent",
             "AI is here. Don't be afraid", "今天天气很好", "parish wears"]  # fmt: skip
    async with opened(url) as store:
        assert isinstance(store, SearchStore)
        await store.append("a", [user(each) for each in texts], "ann")
        await store.append("b", [user("the weather, 天气, unicode of somebody else")], "bob")
        for indexed in (False, True):
            if indexed:
                assert await index(store) == len(texts) + 1
            for query in QUERIES:
                terms = parse_query(query)
                expected = [
                    ("a", number)
                    for number, each in enumerate(texts)
                    if is_match(terms, padded(words_of(each)), parts=True)
                ]
                assert await found(store, query, "ann") == expected, query
        assert await found(store, "weather", "") == []


@every_database
async def test_a_hit_tells_where_it_is_and_what_was_found(url: URL) -> None:
    """It has the session, its title, the turn, the index, the time, a snippet and a rank."""
    async with opened(url) as store:
        await store.append("a", [user("one"), assistant("a  needle\nin a haystack")], "ann", "t1")
        await store.rename("a", "Hay", "ann")
        (hit,) = (await store.search("ann", "needle stack")).hits
        assert (hit.session_id, hit.title, hit.turn_id, hit.index) == ("a", "Hay", "t1", 1)
        assert hit.role == "assistant"
        assert abs(datetime.now(UTC) - hit.created_at) < timedelta(minutes=5)
        assert hit.snippet == "a  needle in a haystack"
        assert [hit.snippet[start:end] for start, end in hit.marks] == ["needle", "stack"]
        assert 0 < hit.rank < 1


@every_database
async def test_filters(url: URL) -> None:
    """A session, a role and a time restrict what is found, indexed or not."""
    async with opened(url) as store:
        await store.append("a", [user("needle"), assistant("needle")])
        await store.append("b", [user("needles")])
        later = datetime.now(UTC) + timedelta(hours=1)
        for query in ("needle", "eedle"):
            for _ in range(2):
                assert await found(store, query) == [("a", 0), ("a", 1), ("b", 0)]
                assert await found(store, query, session_id="b") == [("b", 0)]
                assert await found(store, query, role="assistant") == [("a", 1)]
                assert await found(store, query, role="USER") == []
                assert await found(store, query, role="no\0such" * 50) == []
                assert await found(store, query, since=later) == []
                assert len(await found(store, query, since=later - timedelta(hours=2))) == 3
                await index(store)


@every_database_and_asyncpg
async def test_whatever_changes_a_history_changes_the_index(url: URL) -> None:
    """Every operation on messages keeps the index as the history is, also in one transaction."""
    async with opened(url) as store:
        await store.append("a", [user("first needle")], "ann", "t1")
        await store.append("a", [user("second needle")], "ann", "t2", message_ids=["m1"])
        assert await found_both_ways(store, "needle", "ann") == [("a", 0), ("a", 1)]
        await store.append("a", [user("third needle")], "ann", replace_from=1)
        assert await found_both_ways(store, "second", "ann") == []
        assert await found_both_ways(store, "third", "ann") == [("a", 1)]
        await store.fork("a", "b", "ann", 1)
        assert await found_both_ways(store, "needle", "ann") == [("a", 0), ("a", 1), ("b", 0)]
        await store.pop("a", 1, "ann")
        assert await found_both_ways(store, "needle", "ann") == [("a", 0), ("b", 0)]
        history = await store.load("a", "ann")
        await store.compact("a", history.messages, [user("a summary of straw")], "ann")
        assert await found_both_ways(store, "needle", "ann") == [("b", 0)]
        assert await found_both_ways(store, "straw", "ann") == [("a", 0)]
        assert await store.rotate("b", "c", "ann", "bob")
        assert await found_both_ways(store, "needle", "ann") == []
        assert await found_both_ways(store, "needle", "bob") == [("c", 0)]
        await store.import_(await store.export("c", "bob"), "ann", "d")
        assert await found_both_ways(store, "needle", "ann") == [("d", 0)]
        await store.rewind("d", 0, "ann")
        assert await found_both_ways(store, "needle", "ann") == []
        assert await store.delete("c", "bob")
        assert await found_both_ways(store, "needle", "bob") == []
        assert await store.clear("a", "ann")
        assert await found_both_ways(store, "straw", "ann") == []
        await store.append("e", [user("needle")], "ann")
        await index(store)
        await store.append("f", [user("needle")], "ann")
        await store.erase_owner("ann")
        assert await found_both_ways(store, "needle", "ann") == []
        await store.append("g", [user("needle")])
        await index(store)
        store_time = text("UPDATE hermes_sessions SET updated_at = '2001-01-01 00:00:00'")
        await store._write(lambda database: database.run(store_time, {}))
        assert await store.prune(timedelta(days=1)) >= 1
        assert await found_both_ways(store, "needle") == []
        assert await store._read(search_index.count_strays) == 0


@every_database
async def test_a_store_without_search_keeps_the_index_too(url: URL) -> None:
    """What another process writes that does not search is found; what it removes is not."""
    async with opened(url) as store, opened(url, search=False) as plain:
        await store.append("a", [user("needle")])
        await index(store)
        await plain.append("b", [user("needle")])
        assert await found(store, "needle") == [("a", 0), ("b", 0)]
        await plain.delete("a")
        assert await found(store, "needle") == [("b", 0)]
        with pytest.raises(NotSupported, match="search=True"):
            await plain.search("", "needle")


@every_database_and_asyncpg
async def test_pages(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have each match once, whatever is appended, indexed and removed between them."""
    monkeypatch.setattr("hermes_session_mw.stores.sqlalchemy.search.WINDOW", 7)
    monkeypatch.setattr(search_statements, "SCANNED", 9)
    chance = random.Random(7)
    async with opened(url) as store:
        expected = set()
        for number in range(40):
            word = "needle" if number % 3 else "needlework"
            filler = " hay" * chance.randrange(30)
            await store.append(f"s{number % 4}", [user(f"{word}{filler}")])
            expected.add((f"s{number % 4}", number // 4))
            if number in (12, 30):
                await index(store)
        told: list[Any] = []
        cursor: str | None = None
        for pages in itertools.count():
            page = await store.search("", "needle", 3, cursor)
            told += [(hit.session_id, hit.index) for hit in page.hits]
            assert len(page.hits) <= 3
            if page.cursor is None:
                break
            cursor = page.cursor
            if pages == 2:
                await index(store)
            if pages == 4:
                await store.append("new", [user("nothing of that")])
        assert len(told) == len(set(told))
        assert set(told) == expected
        # All whole words come before the parts.
        kinds = [number % 3 == 0 for number in (index * 4 + int(name[1:]) for name, index in told)]
        assert kinds == sorted(kinds)


@in_sqlite
async def test_a_page_is_ordered_by_rank_and_time(url: URL) -> None:
    """The best come first, and of those alike the newest; a rank is the message's own."""
    async with opened(url) as store:
        await store.append("a", [user("cat dog dog dog"), user("cat cat"), user("cat dog dog dog")])
        ranks: dict[int, float] = {}
        for _ in range(2):
            hits = (await store.search("", "cat")).hits
            assert hits[0].index == 1
            assert ranks in ({}, {hit.index: hit.rank for hit in hits})
            ranks = {hit.index: hit.rank for hit in hits}
            await store.append("b", [user("cat " * 50)], "somebody else")
            await index(store)


@every_database_and_asyncpg
async def test_an_index_is_built_later(url: URL) -> None:
    """What was stored before is found after it, beside what is appended while it is built."""
    async with opened(url, search=False) as plain:
        for number in range(30):
            owner = f"o{number % 3}"
            await plain.append(f"s{number}", [user(f"needle {each}") for each in range(5)], owner)
        await plain.delete("s1", "o1")
        async with opened(url) as store:
            assert await found(store, "needle", "o0") == []
            steps: list[int] = []

            async def append(name: str) -> None:
                for number in range(10):
                    await plain.append(name, [user(f"needle new{number}")], "o0")
                    await plain.rewind("s2", 4 - number // 3, "o2")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(append, "x")
                built = await store.build_search_index(steps.append)
            assert sum(steps) == built
            page = await store.search("o0", "needle", 100)
            assert len(page.hits) == 10 * 5 + 10
            assert len(await found(store, "needle", "o1", limit=100)) == 9 * 5
            assert await store.build_search_index() <= 10
            assert await store.build_search_index() == 0
            newest = await store.search("o0", "needle")
            assert newest.hits


@every_database
async def test_who_removes_messages_while_they_are_indexed(url: URL) -> None:
    """Nothing stays in the index that is in no history, and nothing is missing in it."""
    async with opened(url) as store, opened(url) as other:

        async def write(name: str) -> None:
            for number in range(12):
                await other.append(name, [user(f"needle {number}"), assistant("needle")])
                if number % 4 == 3:
                    await other.rewind(name, number)
                if number == 7:
                    await other.rotate(name, f"{name}-b")
                    name = f"{name}-b"

        async def build() -> None:
            for _ in range(15):
                await store._write(search_index.index_batch, SearchOptions(), 3)

        async with anyio.create_task_group() as tasks:
            for each in ("a", "b", "c"):
                tasks.start_soon(write, each)
            tasks.start_soon(build)
            tasks.start_soon(build)
        expected = []
        for name in ("a-b", "b-b", "c-b"):
            expected += [(name, each) for each in range((await store.load(name)).length)]
        for _ in range(2):
            assert await found(store, "needle", limit=100) == expected
            while await index(store):
                pass
        assert await store._read(search_index.count_strays) == 0


@in_sqlite
async def test_a_build_that_was_killed_is_gone_on_with(url: URL, tmp_path: Path) -> None:
    """A process that is killed between two batches leaves nothing that the next does not mend."""
    async with opened(url, search=False) as plain:
        for number in range(40):
            await plain.append(f"s{number:02}", [user(f"needle {number}")] * 5)
    program = (
        "import os, sys, anyio\n"
        "from hermes_session_mw import SQLAlchemyStore\n"
        "from hermes_session_mw.stores.sqlalchemy import search\n"
        "search._SESSIONS = 5\n"
        "store = SQLAlchemyStore(sys.argv[1], search=True)\n"
        "steps = []\n"
        "def advance(count):\n"
        "    steps.append(count)\n"
        "    if len(steps) == 3: os._exit(9)\n"
        "anyio.run(store.build_search_index, advance)\n"
    )
    killed = await anyio.run_process(
        [sys.executable, "-c", program, url.render_as_string()], check=False
    )
    assert killed.returncode == 9
    async with opened(url) as store:
        assert len((await store.search("", "needle", 100)).hits) == 75
        assert await store.build_search_index() == 125
        page = await store.search("", "needle", 100)
        rest = await store.search("", "needle", 100, page.cursor)
        assert len({(hit.session_id, hit.index) for hit in page.hits + rest.hits}) == 200


@in_sqlite
async def test_many_noted_messages_are_indexed_by_a_search(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search indexes what others have left, instead of reading all of it as it is."""
    monkeypatch.setattr(search_statements, "MOST_NOTED", 10)
    async with opened(url, search=True) as store, opened(url, search=False) as plain:
        await store.load("a")
        for number in range(6):
            await plain.append(f"s{number}", [user("needle")] * 5)
        assert await store._read(search_index.count_noted) == 30
        assert len(await found(store, "needle")) == 30
        assert await store._read(search_index.count_noted) == 0


@in_sqlite
async def test_an_append_indexes_what_is_noted(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many messages, whichever store stored them."""
    monkeypatch.setattr("hermes_session_mw.stores.sqlalchemy.search.INDEX_AT", 4)
    async with opened(url) as store:
        await store.append("a", [user("needle")] * 3)
        assert await store._read(search_index.count_noted) == 3
        await store.append("a", [user("needle")])
        assert await store._read(search_index.count_noted) == 0


@every_database
async def test_options(url: URL) -> None:
    """Tool output is indexed where it is asked for."""
    async with opened(url, search=SearchOptions(tool_output=True)) as store:
        await store.append("a", [{"role": "tool", "content": "needle"}])
        assert await found(store, "needle") == [("a", 0)]
        await store._write(search_index.index_batch, SearchOptions(tool_output=True))
        assert await found(store, "needle") == [("a", 0)]


@every_database
async def test_texts_that_are_hard_for_a_database(url: URL) -> None:
    """Long words, many words, NUL, marks and all of Unicode are indexed, and found again."""
    texts = ["x" * 3000, "y" * 64, "word" * 20_000, " ".join(f"w{n}" for n in range(20_000)),
             "nul\0byte", "quote'd \\ back", "天" * 30_000, "".join(map(chr, range(0xA0, 0xD7FF))),
             "é" * 200, "\U00020000\U0001f600 \U0001d400bc"]  # fmt: skip
    async with opened(url, max_message_bytes=10**7) as store:
        for number, each in enumerate(texts):
            await store.append(f"s{number}", [user(each)])
        assert await index(store) == len(texts)
        for query, number in [("x" * 70, 0), ("y" * 64, 1), ("w15999", 3), ("byte", 4),
                              ("quote'd", 5), ("back", 5), ("天天", 6), ("e" * 64, 8),
                              ("\U00020000", 9), ("abc", 9)]:  # fmt: skip
            # While MariaDB writes its cache of new words, it may not find one of them.
            with anyio.fail_after(60):
                while (f"s{number}", 0) not in await found(store, query):
                    assert url.get_backend_name() == "mysql", query
        assert await found(store, "w19999") == []


@settings(max_examples=60)
@given(query=st.text(max_size=40))
def test_no_query_is_an_error(query: str) -> None:
    """No text is an error of FTS5's language."""
    anyio.run(_search_anything, query)


async def _search_anything(query: str) -> None:
    store = SQLAlchemyStore("sqlite://", search=True)
    await store.append("a", [user("needle")])
    await store._write(search_index.index_batch, SearchOptions())
    page = await store.search("", query)
    assert page.cursor is None
    await store.aclose()


HOSTILE = ['"', "a\"b", "NEAR(a b)", "words:a", "a AND", "OR", "-a", "a*", "^a", "{a}", "a + b",
           "(", "a:*", "a & | !b", "<->", "+a -b @3", "~a >b <c", "'; DROP TABLE hermes_search; --",
           "a\0b", "%", "_", "\\", "🙂", "\u202e", "' OR 1=1 --"]  # fmt: skip


@every_database
async def test_operators_are_text(url: URL) -> None:
    """What means something to a database's own language of queries is searched as text."""
    async with opened(url) as store:
        await store.append("a", [user("needle a b")])
        await index(store)
        for query in HOSTILE:
            expected = bool(parse_query(query)) and is_match(
                parse_query(query), " needle a b ", parts=True
            )
            assert bool(await found(store, query)) == expected, query


def test_an_option_that_is_none_is_refused() -> None:
    """The option is a bool, or what of a message is searched."""
    make: Any
    for make in (SQLAlchemyStore, MemoryStore):
        with pytest.raises(ConfigurationError, match="search"):
            make(search="yes")


@every_database
async def test_messages_whose_words_fold_to_many_bytes_do_not_stop_the_index(url: URL) -> None:
    """A message whose characters fold to four each, and every word anew, is indexed, as others."""
    choose = random.Random(1).choice
    words = (
        "".join(choose("\ufdf2\ufdf3\ufdf4\ufdf5\ufdf6") for _ in range(16))
        for _ in itertools.count()
    )
    wide = " ".join(itertools.islice(words, 8800))
    async with opened(url) as store:
        await store.append("wide", [user(wide)], owner="eve")
        await store.append("a", [user("needle")], owner="ada")
        assert await store.build_search_index() == 2
        assert (await store.search("eve", wide.split()[0])).hits
        assert (await store.search("ada", "needle")).hits


@every_database
async def test_long_phrases_and_roles_are_found(url: URL) -> None:
    """A phrase as long as a query is found, and messages by a role that is cut or has NUL."""
    phrase = "".join(map(chr, range(0x4E00, 0x4F00)))
    async with opened(url) as store:
        messages = [{"role": role, "content": phrase} for role in ("user", "é" * 200, "a\0b")]
        await store.append("a", messages)
        await store.build_search_index()
        for message in messages:
            page = await store.search("", phrase, role=message["role"])
            assert [hit.role for hit in page.hits] == [message["role"]]
        assert not (await store.search("", phrase[:-1] + "天")).hits


@in_sqlite
async def test_long_noted_messages_are_indexed_by_a_search(url: URL) -> None:
    """Few noted messages that are long are indexed by the first search, not read by each."""
    async with opened(url) as store:
        await store.append("a", [user("needle " * 20_000)] * 9)
        assert (await store.search("", "needle")).hits
        read = sqlite3.connect(str(url.database))
        assert read.execute("SELECT count(*) FROM hermes_search_queue").fetchone() == (0,)
        read.close()


@every_database
async def test_an_operator_checks_and_drops_the_index(url: URL) -> None:
    """The check tells what is in the index alone; without the index, nothing is noted any more."""
    name = url.render_as_string(hide_password=False)
    async with opened(url) as store:
        await store.append("a", [user("needle"), user("needle")])
        admin = AdminStore(name, access="write")
        await index(store)
        assert await admin.check_integrity(lambda _steps: None) == []
        stray = text("UPDATE hermes_search SET seq = 7 WHERE seq = 1")
        await store._write(lambda database: database.run(stray, {}))
        (problem,) = await admin.check_integrity(lambda _steps: None)
        assert problem.what.startswith("1 messages of the search index are in no history")
        assert await store.build_search_index() == 1
        assert await admin.check_integrity(lambda _steps: None) == []
        assert await found(store, "needle") == [("a", 0), ("a", 1)]
    for _ in range(2):
        await admin.drop_search_index()
    async with opened(url, search=False) as plain:
        await plain.append("a", [user("needle")])
        await plain.delete("a")
    with pytest.raises(StoreMisconfigured, match="search-index"):
        await admin.search("", "needle")
    await admin.aclose()


@in_sqlite
async def test_a_store_with_an_index_is_not_encrypted(url: URL) -> None:
    """The words would stay in the index in plain text."""
    pytest.importorskip("cryptography")
    async with opened(url) as store:
        await store.append("a", [user("needle")])
    keys = Keyring({"k1": bytes(32)}, current="k1")
    admin = AdminStore(url, access="write", encryption=keys)
    with pytest.raises((ConfigurationError, StoreMisconfigured), match="search index"):
        await admin.encrypt(lambda _steps: None)
    await admin.aclose()


@every_database
async def test_encrypted_sessions_are_not_indexed(url: URL) -> None:
    """An operator and a store with search are told so; once decrypted, they are indexed."""
    pytest.importorskip("cryptography")
    keys = Keyring({"k1": bytes(32)}, current="k1")
    name = url.render_as_string(hide_password=False)
    async with opened(url, search=False, encryption=keys) as store:
        await store.append("a", [user("needle")])
    admin = AdminStore(name, access="write", encryption=keys)
    with pytest.raises(StoreMisconfigured, match="exclude each other"):
        await admin.index_messages(lambda _count: None, SearchOptions())
    async with opened(url) as searching:
        with pytest.raises(StoreMisconfigured, match="exclude each other"):
            await searching.append("b", [user("needle")])
        await admin.decrypt(lambda _count: None)
        assert await searching.build_search_index() == 1
        assert await found(searching, "needle") == [("a", 0)]
    await admin.aclose()


@in_sqlite
async def test_an_erased_owner_leaves_no_word_in_the_file(url: URL) -> None:
    """FTS5 would have the words of what was removed until it happens to merge."""
    async with opened(url) as store, opened(url, search=False) as plain:
        for number in range(30):
            for owner, word in (("ann", "xylophone"), ("bob", "saxophone")):
                await store.append(f"s{number}", [user(f"{word} {word}{number}")], owner)
            await index(store)
        await store.append("noted", [user("xylophone")], "ann")
        await plain.erase_owner("ann", vacuum=False)
        folder = Path(url.database or "").parent
        left = b"".join(each.read_bytes() for each in folder.glob("sessions.db*"))
        assert b"xylophone" not in left
        assert b"ylophon" not in left  # as the index shares the beginnings of words
        assert len(await found(store, "saxophone", "bob")) == 30


def test_search_and_encryption_exclude_each_other() -> None:
    """An index would have in plain text what the store encrypts."""
    pytest.importorskip("cryptography")
    keys = Keyring({"k1": bytes(32)}, current="k1")
    with pytest.raises(ConfigurationError, match="exclude each other"):
        SQLAlchemyStore("sqlite://", search=True, encryption=keys)


@every_database
async def test_a_message_that_cannot_be_read_is_left_out(url: URL) -> None:
    """One damaged message keeps no other from being found, before it is indexed and after."""
    async with opened(url) as store:
        await store.append("a", [user("needle one"), user("needle two")])
        damage = text("UPDATE hermes_messages SET body = 'needle' WHERE seq = 0")
        await store._write(lambda database: database.run(damage, {}))
        assert await found_both_ways(store, "needle") == [("a", 1)]


@every_database
async def test_a_migration_makes_the_tables(url: URL) -> None:
    """A store that makes no tables names the upgrade, and works after it."""
    engine = create_engine(url.set(drivername=url.drivername.replace("asyncpg", "psycopg")))
    with engine.begin() as connection:
        migrations.upgrade(connection)
    async with opened(url, create_schema=False) as store:
        with pytest.raises(StoreMisconfigured, match=r"migrations\.upgrade.*search=True"):
            await store.append("a", [user("needle")])
        for _ in range(2):
            with engine.begin() as connection:
                migrations.upgrade(connection, search=True)
        await store.append("a", [user("needle")])
        assert await found_both_ways(store, "needle") == [("a", 0)]
    engine.dispose()


@every_database
async def test_a_migration_after_a_killed_drop_begins_anew(url: URL) -> None:
    """What is left of an index without its triggers may be of messages that are gone."""
    engine = create_engine(url)
    async with opened(url) as store, opened(url, search=False) as plain:
        for name in ("a", "b"):
            await store.append(name, [user("needle")])
        await index(store)
        for trigger in ("moved", "removed", "added"):
            name = f"hermes_search_{trigger}"
            of_table = " ON hermes_messages" if url.get_backend_name() == "postgresql" else ""
            await execute(store, f"DROP TRIGGER {name}{of_table}")
        await plain.delete("a")
        with engine.begin() as connection:
            migrations.upgrade(connection, search=True)
        assert await store._read(search_index.count_strays) == 0
        assert await found(store, "needle") == []
        assert await store.build_search_index() == 1
        for _ in range(2):  # over a whole index it changes nothing
            with engine.begin() as connection:
                migrations.upgrade(connection, search=True)
            assert await found(store, "needle") == [("b", 0)]
    engine.dispose()


@in_sqlite
async def test_the_tables_are_added_to_a_metadata(url: URL) -> None:
    """Alembic is given them where they are asked for; a store without search makes none."""
    names = {"hermes_search", "hermes_search_queue"}
    metadata = MetaData()
    assert not names & {table.name for table in migrations.add_tables(metadata)}
    assert names <= {table.name for table in migrations.add_tables(metadata, search=True)}
    async with opened(url, search=False) as plain:
        await plain.append("a", [user("needle")])
    engine = create_engine(url)
    assert not [name for name in inspect(engine).get_table_names() if "search" in name]
    metadata.create_all(engine)
    engine.dispose()


@in_sqlite
async def test_a_borrowed_engine_searches_too(url: URL) -> None:
    """Over SQLAlchemy's own execution, without foreign keys, the index is kept all the same."""
    engine = create_engine(url)
    store = SQLAlchemyStore(engine, search=True)
    await store.append("a", [user("needle 天气")])
    assert await found_both_ways(store, "天气 eedl") == [("a", 0)]
    await store.delete("a")
    assert await found(store, "needle") == []
    await store.aclose()
    engine.dispose()


def test_who_does_not_search_imports_nothing_of_it() -> None:
    """The package, a store and its operations know no module of search."""
    modules = {
        f"hermes_session_mw.stores.{name}"
        for name in ("search", "search_text", "sqlalchemy.search", "sqlalchemy.statements.search",
                     "sqlalchemy.statements.search_index", "sqlalchemy.schema.search_tables")
    }  # fmt: skip
    program = (
        "import sys, anyio; import hermes_session_mw as h\n"
        "async def main():\n"
        "    store = h.SQLAlchemyStore('sqlite://'); await store.append('a', [{'n': 1}])\n"
        "    await store.delete('a'); await store.erase_owner('x'); await store.aclose()\n"
        "anyio.run(main)\n"
        f"assert not {modules!r} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
