"""Files of other versions, and files that are not Hermes'."""

import logging
from pathlib import Path

import pytest

from hermes_session_mw import (
    ConfigurationError,
    HermesStateStore,
    InvalidMessage,
    StoreCorrupt,
    StoreMisconfigured,
    StoreUnavailable,
)
from tests.stores.hermes_state.agent import COMPRESSED, WEATHER, ask, golden, without_times

TURN = [{"role": "user", "content": "x"}]


def drop(path: Path, *columns: str) -> None:
    for index in (
        "idx_messages_session_active",
        "idx_messages_active_null",
        "idx_sessions_title_unique",
        "idx_messages_platform_msg_id",
        "idx_sessions_gateway_peer",
    ):
        ask(path, f"DROP INDEX IF EXISTS {index}")
    for column in columns:
        table, name = column.split(".")
        ask(path, f"ALTER TABLE {table} DROP COLUMN {name}")


async def test_a_column_that_came_later_may_be_missing(
    state: HermesStateStore, state_db: Path
) -> None:
    """An older file is read without what it does not have, and takes what it has a place for."""
    later = ("api_content", "effect_disposition", "observed", "codex_message_items", "active",
             "platform_message_id", "compacted")  # fmt: skip
    drop(state_db, *(f"messages.{name}" for name in later))
    gone = {"api_content", "message_id", "codex_message_items"}
    expected = [{k: v for k, v in m.items() if k not in gone} for m in golden(WEATHER)]
    assert (await state.load(WEATHER)).messages == expected
    assert await state.append(WEATHER, TURN) == 9
    assert without_times((await state.load(WEATHER, limit=1)).messages) == TURN
    with pytest.raises(InvalidMessage, match="'api_content'"):
        await state.append(WEATHER, [{"role": "user", "content": "x", "api_content": "y"}])
    with pytest.raises(StoreMisconfigured, match=r"messages\.active"):
        await state.rewind(WEATHER, 1)
    with pytest.raises(StoreMisconfigured, match=r"messages\.active"):
        await state.append(WEATHER, TURN, replace_from=1)
    assert await state.append(WEATHER, TURN, replace_from=9) == 10


async def test_a_file_without_owners_has_none(state: HermesStateStore, state_db: Path) -> None:
    """Where sessions have no user, an owner is an error and no guess; without one all works."""
    drop(state_db, "sessions.user_id")
    assert (await state.load(COMPRESSED)).length == 4
    assert await state.append("new", TURN) == 1
    for operation in (state.load(WEATHER, owner="u7"), state.list(owner="u7")):
        with pytest.raises(StoreMisconfigured, match=r"sessions\.user_id"):
            await operation
    with pytest.raises(StoreMisconfigured, match=r"sessions\.user_id"):
        await state.append("other", TURN, owner="u7")


async def test_a_file_without_titles_and_counts_does_what_it_can(
    state: HermesStateStore, state_db: Path
) -> None:
    """Titles, the count of rewinds, hidden sessions and locks may be missing."""
    drop(state_db, "sessions.title", "sessions.rewind_count", "sessions.archived")
    ask(state_db, "DROP TABLE compression_locks")
    info = await state.info(WEATHER)
    assert info is not None
    assert info.title is None
    assert await state.rewind(WEATHER, 7) == 7
    assert await state.append(WEATHER, TURN) == 8
    assert len((await state.list()).sessions) == 3
    with pytest.raises(StoreMisconfigured, match=r"sessions\.title"):
        await state.rename(WEATHER, "x")


async def test_a_file_without_keys_and_values_holds_no_turn_ids(
    state: HermesStateStore, state_db: Path
) -> None:
    """Where there is no place for a turn id, it is refused, and nothing is stored without it."""
    ask(state_db, "DROP TABLE state_meta")
    with pytest.raises(StoreMisconfigured, match=r"state_meta\.key"):
        await state.append(WEATHER, TURN, turn_id="t")
    assert await state.find_turn(WEATHER, "t") is None
    assert await state.append(WEATHER, TURN) == 9


async def test_a_new_column_is_left_to_its_default(
    state: HermesStateStore, state_db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer version's columns are left alone, and the log says that there may be some."""
    assert (await state.load(WEATHER)).length == 8
    ask(state_db, "ALTER TABLE messages ADD COLUMN mood TEXT")
    ask(state_db, "ALTER TABLE sessions ADD COLUMN karma INTEGER NOT NULL DEFAULT 5")
    ask(state_db, "UPDATE schema_version SET version = 23")
    with caplog.at_level(logging.WARNING, "hermes_session_mw"):
        assert await state.append("new", TURN) == 1
    assert "version 23" in caplog.text
    assert ask(state_db, "SELECT karma FROM sessions WHERE id = 'new'") == [(5,)]


@pytest.mark.parametrize("table", ["messages", "sessions"])
async def test_a_value_that_nobody_here_knows_is_not_made_up(
    state: HermesStateStore, state_db: Path, table: str
) -> None:
    """Where a newer version asks for a value of its own, nothing is written; reading goes on."""
    (sql,) = ask(state_db, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")[0]
    first = {"messages": "role TEXT", "sessions": "source TEXT"}[table]
    changed = sql.replace(first, f"karma TEXT NOT NULL, {first}", 1)
    with_schema(state_db, table, changed)
    assert (await state.load("nope")).exists is False
    with pytest.raises(StoreMisconfigured, match=rf"{table}\.karma"):
        await state.append("new", TURN)


async def test_a_known_column_that_may_no_longer_be_empty_is_told(
    state: HermesStateStore, state_db: Path
) -> None:
    """So is a column that was left empty so far, and may not be any more."""
    (sql,) = ask(state_db, "SELECT sql FROM sqlite_master WHERE name = 'messages'")[0]
    with_schema(
        state_db, "messages", sql.replace("reasoning TEXT", "reasoning TEXT NOT NULL DEFAULT ''")
    )
    with pytest.raises(StoreMisconfigured, match=r"messages\.reasoning"):
        await state.append(WEATHER, TURN)


def with_schema(path: Path, table: str, sql: str) -> None:
    """Have an empty table of another form in the place of Hermes'."""
    ask(path, f"DROP TABLE {table}")
    ask(path, sql)


@pytest.mark.parametrize(
    "column",
    ["sessions.end_reason", "sessions.message_count", "messages.content", "messages.timestamp"],
)
async def test_without_an_essential_column_it_is_not_hermes(
    state: HermesStateStore, state_db: Path, column: str
) -> None:
    """A file that lacks what every version has is refused by the column's name."""
    table, name = column.split(".")
    ask(state_db, "DROP TRIGGER messages_fts_insert")
    (sql,) = ask(state_db, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")[0]
    with_schema(state_db, table, sql.replace(f" {name} ", f" my_{name} "))
    with pytest.raises(StoreMisconfigured, match=f"no {column}"):
        await state.load(WEATHER)


async def test_another_applications_database_is_refused(tmp_path: Path) -> None:
    """A SQLite file without Hermes' tables is left as it is."""
    path = tmp_path / "other.db"
    ask(path, "CREATE TABLE mine (a)")
    store = HermesStateStore(path)
    for operation in (store.load("a"), store.append("a", TURN)):
        with pytest.raises(StoreMisconfigured, match="no table sessions"):
            await operation
    await store.aclose()
    assert ask(path, "SELECT name FROM sqlite_master") == [("mine",)]


async def test_a_version_table_may_be_missing(state: HermesStateStore, state_db: Path) -> None:
    """The version is only looked at to tell of a newer one."""
    ask(state_db, "DROP TABLE schema_version")
    assert (await state.load(WEATHER)).length == 8


async def test_a_version_that_is_no_number_is_refused(
    state: HermesStateStore, state_db: Path
) -> None:
    """Which rules hold cannot be known then, and nothing is read or written."""
    ask(state_db, "UPDATE schema_version SET version = 'new'")
    for operation in (state.load(WEATHER), state.append("new", TURN)):
        with pytest.raises(StoreMisconfigured, match="version is not a number"):
            await operation


async def test_what_is_no_database_is_corrupt(tmp_path: Path) -> None:
    """A file of something else is told apart, and left as it is."""
    path = tmp_path / "state.db"
    path.write_bytes(b"hello " * 1000)
    store = HermesStateStore(path)
    with pytest.raises(StoreCorrupt):
        await store.load("a")
    await store.aclose()
    assert path.read_bytes() == b"hello " * 1000


async def test_a_damaged_table_is_corrupt(state: HermesStateStore, state_db: Path) -> None:
    """Damage that is only met while reading is told as such, and leaves the rest readable."""
    ((page,),) = ask(state_db, "SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
    with state_db.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreCorrupt):
        await state.load(WEATHER)
    assert not (await state.load("nope")).exists


@pytest.mark.parametrize("column", ["role", "content", "reasoning", "timestamp"])
async def test_bytes_in_place_of_a_text_are_corrupt(
    state: HermesStateStore, state_db: Path, column: str
) -> None:
    """A message is JSON: bytes, which Hermes never writes, are damage, and not a message."""
    ask(state_db, f"UPDATE messages SET {column} = x'00ff' WHERE id = 2")
    for operation in (state.load(WEATHER), state.load(WEATHER, limit=7), state.export(WEATHER)):
        with pytest.raises(StoreCorrupt, match="bytes in place of"):
            await operation
    assert (await state.load(WEATHER, limit=1)).length == 8


async def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    """Where there is no file there is none after, and once there is, it is found."""
    path = tmp_path / "state.db"
    store = HermesStateStore(path)
    for operation in (store.load("a"), store.append("a", TURN)):
        with pytest.raises(StoreMisconfigured, match="no such file as"):
            await operation
    assert not path.exists()
    await store.aclose()


async def test_a_file_that_vanishes_is_not_made_anew(
    state: HermesStateStore, state_db: Path
) -> None:
    """A file that was there, and is gone, is waited for and found again."""
    assert (await state.load(WEATHER)).length == 8
    moved = state_db.rename(state_db.with_name("moved.db"))
    with pytest.raises(StoreUnavailable, match="gone"):
        await state.append(WEATHER, TURN)
    assert not state_db.exists()
    moved.rename(state_db)
    assert await state.append(WEATHER, TURN) == 9


async def test_what_is_kept_of_a_turn_may_be_damaged(
    state: HermesStateStore, state_db: Path
) -> None:
    """A turn's record that cannot be read is an error, and no second turn."""
    await state.append(WEATHER, TURN, turn_id="t")
    for damaged in ("{", "[]", '{"a": 1}'):
        ask(
            state_db, "UPDATE state_meta SET value = ? WHERE key LIKE 'hermes_session_mw%'", damaged
        )
        with pytest.raises(StoreCorrupt, match="state_meta"):
            await state.append(WEATHER, TURN, turn_id="t")
    assert (await state.load(WEATHER)).length == 9


@pytest.mark.parametrize(
    "path",
    ["", ":memory:", "sqlite://", "sqlite:///:memory:", "postgresql://h/d", "sqlite:///a.db?mode=ro",
     "://", "sqlite://host/a.db", 7, None],
)  # fmt: skip
def test_a_path_that_names_no_file_is_refused(path: object) -> None:
    """What is no path of a file, nor a SQLite URL of one, is refused where it is given."""
    with pytest.raises(ConfigurationError, match="path"):
        HermesStateStore(path)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "options", [{"source": ""}, {"source": "tool"}, {"timeout": 0}, {"threads": 0}]
)
def test_other_options_are_checked_too(options: dict[str, object]) -> None:
    """A source that Hermes would take for a helper's, and numbers that are none, are refused."""
    with pytest.raises(ConfigurationError):
        HermesStateStore("state.db", **options)  # type: ignore[arg-type]  # wrong on purpose


async def test_a_path_may_be_a_url_or_begin_at_home(
    state_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path, a relative one, one from the user's home and a URL name the same file."""
    monkeypatch.setenv("HOME", str(state_db.parent))
    monkeypatch.chdir(state_db.parent)
    for path in (state_db, str(state_db), "state.db", "~/state.db", f"sqlite:///{state_db}"):
        store = HermesStateStore(path, threads=1)
        assert (await store.load(WEATHER)).length == 8
        assert str(state_db) in repr(store)
        await store.aclose()
