"""What encryption costs: statements that are counted, as the page tells them."""

from pathlib import Path
from typing import Any

import pytest

from hermes_session_mw import Keyring, SQLAlchemyStore
from hermes_session_mw.database.connection import DirectDatabase
from tests.support.own_databases import own_database

TURN = [{"role": "user", "content": "Rain?"}]
MORE = {
    "first turn": {"sqlite": 1, "postgresql": 4},
    "turn": {"sqlite": 0, "postgresql": 3},
    "turn with an id": {"sqlite": 0, "postgresql": 0},
    "load": {"sqlite": 0, "postgresql": 0},
    "newest": {"sqlite": 0, "postgresql": 0},
    "range": {"sqlite": 0, "postgresql": 0},
    "rename": {"sqlite": 1, "postgresql": 1},
    "metadata": {"sqlite": 1, "postgresql": 1},
    "list": {"sqlite": 0, "postgresql": 0},
    "replace": {"sqlite": 0, "postgresql": 0},
    "fork": {"sqlite": 5, "postgresql": 5},
    "rotate": {"sqlite": 3, "postgresql": 3},
    "export": {"sqlite": 0, "postgresql": 0},
    "begin": {"sqlite": 0, "postgresql": 0},
    "events": {"sqlite": 1, "postgresql": 6},
    "read events": {"sqlite": 0, "postgresql": 0},
    "end": {"sqlite": 0, "postgresql": 0},
    "delete": {"sqlite": 1, "postgresql": 1},
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements and commands that were sent to a database."""
    found: list[str] = []

    def count(name: str) -> None:
        method = getattr(DirectDatabase, name)

        def counting(self: Any, *arguments: Any) -> Any:
            found.append(name)
            return method(self, *arguments)

        monkeypatch.setattr(DirectDatabase, name, counting)

    for name in ("rows", "run", "command", "commit"):
        count(name)
    return found


async def counts(store: SQLAlchemyStore, sent: list[str]) -> dict[str, int]:
    """Return how many statements each operation sends."""
    found: dict[str, int] = {}
    await store.load("unknown")

    async def told(name: str, work: Any) -> Any:
        sent.clear()
        value = await work
        found[name] = len(sent)
        return value

    await told("first turn", store.append("s", TURN))
    await told("turn", store.append("s", TURN))
    await told("turn with an id", store.append("s", TURN, turn_id="t"))
    await told("load", store.load("s"))
    await told("newest", store.load("s", limit=1))
    await told("range", store.load_range("s"))
    await told("rename", store.rename("s", "title"))
    await told("metadata", store.set_metadata("s", {"a": 1}))
    await told("list", store.list())
    await told("replace", store.append("s", TURN, replace_from=2))
    await told("fork", store.fork("s", "s2"))
    await told("rotate", store.rotate("s2", "s3"))
    await told("export", store.export("s"))
    fence = await told("begin", store.begin_answer("s", "a", TURN, lease=60))
    await told("events", store.write_events("s", "a", 1, ['"x"'], fence=fence, lease=60))
    await told("read events", store.read_events("a"))
    ended = store.end_answer("s", "a", 2, ['"y"'], TURN * 2, fence=fence, state="completed")
    await told("end", ended)
    await told("delete", store.delete("s"))
    await store.aclose()
    return found


@pytest.mark.parametrize(
    ("database", "anyio_backend"), [("sqlite", "trio"), ("postgresql+psycopg", "trio")]
)
async def test_statements_are_as_many_more_as_the_page_says(
    database: str, tmp_path: Path, request: pytest.FixtureRequest, sent: list[str]
) -> None:
    """Reads send none more, writes as many as they need for the data key."""
    found = []
    for encryption in (None, Keyring({"k1": bytes(32)}, current="k1")):
        folder = tmp_path / str(encryption is None)
        folder.mkdir()
        with own_database(request, database, folder) as url:
            found.append(await counts(SQLAlchemyStore(url, encryption=encryption), sent))
    plain, encrypted = found
    backend = database.split("+", maxsplit=1)[0]
    more = {name: encrypted[name] - count for name, count in plain.items()}
    assert more == {name: each[backend] for name, each in MORE.items()}
