"""``hermes-sessions``: what each subcommand says and does, and its exit codes."""

import json
import os
import sqlite3
import subprocess
import sys
import tomllib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, create_engine, text

from hermes_session_mw import SQLAlchemyStore, migrations
from hermes_session_mw.cli import hermes_source, main, terminal
from hermes_session_mw.cli.app import cli
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from tests.stores.hermes_state.agent import COMPRESSED, WEATHER, copy_to
from tests.stores.sqlalchemy.test_admin_store import DRIVERS
from tests.support import postgres
from tests.support.command import TURN, environment, fill, run, told
from tests.support.own_databases import own_database
from tests.support.server import ROOT

HOSTILE = "a\x1b]0;mine\x07\u202e\x9b31m\nb"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with two owners, one of whose ids is the other's too, and a session of nobody."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    fill(url, ("ada", "rain"), ("bob", "rain"), ("bob", "snow"), ("", "wind:1"))
    return url


@pytest.fixture(params=DRIVERS)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database for each driver."""
    with own_database(request, request.param, tmp_path) as made:
        yield made


def sql(store: str, statement: str) -> None:
    """Run one statement."""
    engine = create_engine(store)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def edit(store: str, work: Any) -> Any:
    """Run something on a store of the package's own."""

    async def use() -> Any:
        opened = SQLAlchemyStore(store)
        try:
            return await work(opened)
        finally:
            await opened.aclose()

    return anyio.run(use)


def test_every_database_has_all_of_it(anywhere: URL, tmp_path: Path) -> None:
    """A life of two sessions: in, listed, shown, counted, out, checked, pruned and deleted."""
    source = f"sqlite:///{tmp_path}/source.db"
    fill(source, ("ada", "rain"), ("bob", "rain"))
    # MariaDB has no fractions.
    whole = "created_at = '2026-01-31 12:00:00', updated_at = datetime('now')"
    sql(source, f"UPDATE hermes_sessions SET {whole}")
    sql(source, "UPDATE hermes_messages SET created_at = '2026-01-31 12:00:00'")
    file = tmp_path / "all.jsonl"
    assert run(source, "export", "--all", "-o", str(file)).exit_code == 0
    imported = told(anywhere, "import", str(file))
    assert (imported["imported"], imported["messages"]) == (2, 4)
    assert told(anywhere, "import", str(file))["unchanged"] == 2
    listed = told(anywhere, "list")["sessions"]
    assert sorted((each["owner"], each["id"]) for each in listed) == [
        ("ada", "rain"),
        ("bob", "rain"),
    ]
    shown = told(anywhere, "show", "rain", "--owner", "bob", "--archived")
    assert (shown["messages"], shown["archived"]) == (TURN, [])
    assert told(anywhere, "stats")["messages"] == 4
    assert told(anywhere, "check") == {"sessions": 2, "problems": []}
    assert run(anywhere, "export", "--all").stdout == file.read_text()
    assert told(anywhere, "prune", "--older-than", "1h", "--dry-run")["sessions"] == 0
    assert told(anywhere, "delete", "rain", "--owner", "ada", "--yes")["deleted"] == ["rain"]
    backend = anywhere.get_backend_name()
    sync = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    plain = anywhere.set(drivername=sync[backend]).render_as_string(hide_password=False)
    sql(plain, "UPDATE hermes_sessions SET updated_at = '2001-02-03 04:05:06'")
    pruned = told(anywhere, "prune", "--older-than", "2001-02-04", "--yes")
    counts = {"sessions": 1, "messages": 2, "ids": 1, "keys": 0, "answers": 0, "folded": 0}
    assert pruned == {"dry_run": False, **counts}
    assert told(anywhere, "list") == {"sessions": [], "cursor": None}


def test_the_store_may_be_named_after_the_subcommand(store: str) -> None:
    """--store and --timeout mean the same after a subcommand, where they count more than before."""
    for before in ("sqlite:///nowhere.db", store):
        result = run(before, "list", "--timeout", "9", "--store", store)
        assert (result.exit_code, "wind:1" in result.stdout) == (0, True)
    secret = run(store, "list", "--store", "postgresql+psycopg://me:hunter2@127.0.0.1:1/db")
    assert (secret.exit_code, "hunter2" in secret.stderr) == (3, False)
    for endless in ("inf", "1e300", "nan", "0"):
        assert run(store, "list", "--timeout", endless).exit_code == 2


def test_list_is_a_table_for_people(store: str) -> None:
    """A table has each session's facts, its pages a cursor, and owners may be picked."""
    first = run(store, "list", "--limit", "3", "--archived")
    headers, *rows = first.stdout.splitlines()
    assert headers.split()[:5] == ["ID", "OWNER", "TITLE", "MESSAGES", "TURNS"]
    assert headers.split()[-1] == "ARCHIVED"
    assert len(rows) == 3
    assert rows[0].split()[-1] == "0"
    cursor = first.stderr.split()[-1]
    second = run(store, "list", "--cursor", cursor)
    assert (len(second.stdout.splitlines()), second.stderr) == (2, "")
    assert len(run(store, "list", "--owner", "bob").stdout.splitlines()) == 3
    assert len(run(store, "list", "--all-owners").stdout.splitlines()) == 5
    assert run(store, "list", "--owner", "").stdout.split()[9:10] == ["wind:1"]
    assert run(store, "list", "--owner", "bob", "--all-owners").exit_code == 2
    refused = run(store, "list", "--cursor", "made-up")
    assert (refused.exit_code, "cursor" in refused.stderr) == (2, True)
    assert run(store, "list", "--owner", "\0").exit_code == 2
    assert run(store, "list", "--limit", "0").exit_code == 2


def test_list_for_programs(store: str) -> None:
    """JSON has ISO times in UTC, whole texts, and nothing but ASCII."""
    edit(store, lambda s: s.rename("rain", "Schnee ❄ " + "x" * 300, "ada"))
    result = run(store, "list", "--owner", "ada", "--json")
    (session,) = json.loads(result.stdout)["sessions"]
    assert result.stdout.isascii()
    assert session["created_at"].endswith("Z")
    assert session == {
        "id": "rain",
        "owner": "ada",
        "title": "Schnee ❄ " + "x" * 300,
        "first_words": None,
        "messages": 2,
        "turns": 1,
        "archived": 0,
        "created_at": session["created_at"],
        "updated_at": session["updated_at"],
        "parent_id": None,
        "expires_at": None,
        "tags": [],
        "pinned": False,
        "shelved": False,
        "metadata": {},
    }


def test_what_clients_wrote_does_nothing_to_a_terminal(store: str) -> None:
    """Escape sequences, in titles, owners, ids and messages, are written out."""

    async def write(opened: SQLAlchemyStore) -> None:
        message = {
            "role": HOSTILE,
            "content": [{"text": HOSTILE}, {"image": HOSTILE}, None, HOSTILE],
        }
        await opened.append(HOSTILE, [{**message, HOSTILE: HOSTILE}, {"content": 7}], HOSTILE)
        await opened.rename(HOSTILE, HOSTILE, HOSTILE)

    edit(store, write)
    for arguments in (
        ["list"],
        ["show", HOSTILE],
        ["show", "no" + HOSTILE],
        ["delete", "no" + HOSTILE],
        ["delete", HOSTILE],
        ["list", "--json"],
        ["show", HOSTILE, "--json"],
        ["stats"],
    ):
        result = run(store, *arguments)
        said = result.stdout + result.stderr
        assert set(said).isdisjoint("\x1b\x07\u202e\x9b"), arguments
    shown = run(store, "show", HOSTILE).stdout.splitlines()
    assert r"id           a\x1b]0;mine\x07\u202e\x9b31m\nb" in shown
    assert [r"    a\x1b]0;mine\x07\u202e\x9b31m", "    b"] == shown[8:10]
    sql(store, "UPDATE hermes_messages SET seq = 9 WHERE seq = 1 AND owner LIKE 'a%mine%'")
    checked = run(store, "check")
    assert checked.exit_code == 1
    assert set(checked.stdout).isdisjoint("\x1b\x07\u202e\x9b")


def test_show_reads_like_a_conversation(store: str) -> None:
    """Messages have place, role and text; the newest alone, and archived ones, may be asked for."""

    async def write(opened: SQLAlchemyStore) -> None:
        call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
        await opened.append("snow", [call], "bob")
        await opened.rename("snow", "Skiing", "bob")
        await opened.fork("snow", "fork", "bob")
        await opened.rewind("snow", 1, "bob")

    edit(store, write)
    shown = run(store, "show", "fork").stdout
    assert "messages     3 in 2 turns\n" in shown
    assert "forked from  snow\n" in shown
    assert "\n[1] user\n    Rain?\n\n[2] assistant\n    Yes, rain.\n\n[3] assistant\n" in shown
    assert shown.endswith('    tool_calls: [{"id": "1"}]\n')
    last = run(store, "show", "fork", "--last", "1").stdout
    assert ("[3]" in last, "[2]" in last) == (True, False)
    archived = run(store, "show", "snow", "--archived").stdout
    assert archived.count("UTC, rewind]") == 2
    assert "title        Skiing\n" in archived
    told_of = told(store, "show", "snow", "--archived")
    assert [each["reason"] for each in told_of["archived"]] == ["rewind", "rewind"]
    assert told_of["session"]["archived"] == 2
    assert "archived" not in told(store, "show", "snow")


def test_an_id_that_several_owners_have_asks_whose(store: str) -> None:
    """Without --owner an id finds its only owner's session, and two owners' are a usage error."""
    assert told(store, "show", "wind:1")["session"]["owner"] == ""
    for command in (["show", "rain"], ["export", "rain"], ["delete", "rain", "--yes"]):
        result = run(store, *command)
        assert (result.exit_code, "2 owners have" in result.stderr) == (2, True)
    assert told(store, "show", "rain", "--owner", "bob")["session"]["owner"] == "bob"
    assert run(store, "show", "rain", "--owner", "eve").exit_code == 1
    unknown = run(store, "show", "nothing")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: there is no session 'nothing'\n")


def test_stats_of_an_empty_store(store: str, tmp_path: Path) -> None:
    """Where there is nothing, that is what is counted; sizes are of the whole store alone."""
    sql(store, "DELETE FROM hermes_messages")
    sql(store, "DELETE FROM hermes_sessions")
    said = run(store, "stats").stdout
    assert "sessions            0\n" in said
    assert "oldest" not in said
    totals = told(store, "stats")
    assert (totals["sessions"], totals["oldest"]) == (0, None)
    assert totals["bytes"]["database"] > 0
    assert told(store, "stats", "--owner", "ada")["bytes"] == {}
    assert run(store, "list").stdout.split()[0] == "ID"
    assert told(store, "check")["sessions"] == 0


def test_answers_are_counted_checked_and_swept(store: str) -> None:
    """What became of answers is told, and what a killed process left behind is ended by a prune."""

    async def answer(opened: SQLAlchemyStore) -> None:
        await opened.set_metadata("rain", {"topic": "weather"}, "ada")
        for answer_id, session_id in (("ended", "rain"), ("open", "snow")):
            fence = await opened.begin_answer(session_id, answer_id, TURN[:1], "ada", lease=60)
            await opened.write_events(
                session_id, answer_id, 1, ['"It "'], "ada", fence=fence, lease=60
            )
            if answer_id == "ended":
                await opened.end_answer(
                    session_id, answer_id, 2, ['"is."'], TURN, "ada", fence=fence, state="completed"
                )

    edit(store, answer)
    said = run(store, "stats").stdout
    assert "open answers        1\n" in said
    assert "ended answers       1\n" in said
    assert "events of answers   3\n" in said
    totals = told(store, "stats", "--owner", "bob")
    assert [totals[name] for name in ("open_answers", "ended_answers", "answer_events")] == [0] * 3
    assert told(store, "check")["problems"] == []
    dry = run(store, "prune", "--older-than", "1h", "--dry-run").stdout
    assert dry == "0 sessions with 0 messages would be pruned\n"
    sql(store, "UPDATE hermes_sessions SET leased_until = 0 WHERE id = 'snow'")
    # What only looks changes nothing.
    assert run(store, "show", "snow", "--owner", "ada").exit_code == 1
    dry = run(store, "prune", "--older-than", "1h", "--dry-run").stdout
    assert (
        dry == "0 sessions with 0 messages would be pruned, 1 interrupted answer would be ended\n"
    )
    assert run(store, "prune", "--older-than", "1h").exit_code == 2  # nobody to ask
    said = run(store, "prune", "--older-than", "1h", "--yes").stdout
    assert said == "0 sessions with 0 messages pruned, 1 interrupted answer ended\n"
    shown = told(store, "show", "snow", "--owner", "ada")["messages"]
    assert [each["content"] for each in shown] == [TURN[0]["content"], "It "]
    sql(store, "UPDATE hermes_answers SET ended_at = 1000")
    said = run(store, "prune", "--older-than", "1h", "--yes").stdout
    assert said == "0 sessions with 0 messages, 2 ended answers pruned\n"
    sql(store, "UPDATE hermes_sessions SET answer_fence = 9 WHERE id = 'snow' AND owner = 'ada'")
    checked = run(store, "check")
    assert checked.exit_code == 1
    assert "session snow of ada: it names an open answer that it does not have\n" in checked.stdout


def test_metadata_moves_with_its_session(store: str, tmp_path: Path) -> None:
    """An export has a session's metadata, and an import stores it."""
    edit(store, lambda opened: opened.set_metadata("rain", {"topic": "weather"}, "ada"))
    file = tmp_path / "rain.jsonl"
    assert run(store, "export", "rain", "--owner", "ada", "-o", str(file)).exit_code == 0
    copy = f"sqlite:///{tmp_path}/copy.db"
    assert told(copy, "import", str(file))["imported"] == 1
    found = edit(copy, lambda opened: opened.find_metadata("rain", "ada"))
    assert found == {"topic": "weather"}
    assert run(copy, "export", "--all").stdout == file.read_text()


def test_export_and_import_move_sessions(store: str, tmp_path: Path) -> None:
    """Lines come out as the store has them, with whose they are, and go in under another id."""
    one = run(store, "export", "wind:1")
    assert one.stdout == edit(store, lambda s: s.export("wind:1"))
    head = json.loads(run(store, "export", "rain", "--owner", "ada").stdout.splitlines()[0])
    assert (head["id"], head["owner"]) == ("rain", "ada")
    hidden = run(store, "export", "rain", "--owner", "ada", "--without-owner").stdout
    assert hidden == edit(store, lambda s: s.export("rain", "ada"))
    new = f"sqlite:///{tmp_path}/new.db"
    said = run(new, "import", "-", "--as", "other", stdin=hidden)
    assert said.stdout == (
        "sessions imported: 1, with messages: 2; unchanged: 0; empty: 0; in conflict: 0\n"
    )
    assert told(new, "list")["sessions"][0]["owner"] == ""
    every = run(store, "export", "--all").stdout
    assert told(new, "import", "-", stdin=every) == {
        "imported": 4,
        "messages": 8,
        "unchanged": 0,
        "empty": 0,
        "conflicts": [],
    }
    assert told(new, "import", "-", "--owner", "eve", stdin=one.stdout)["imported"] == 1
    assert told(new, "show", "wind:1", "--owner", "eve")["messages"] == TURN
    assert len(run(store, "export", "--all", "--owner", "bob").stdout.splitlines()) == 6


def test_an_import_keeps_times(store: str, tmp_path: Path) -> None:
    """What is restored is listed as it was, and is pruned by when it was changed."""
    year = "'2025-01-01 00:00:00'"
    sql(store, f"UPDATE hermes_sessions SET created_at={year}, updated_at={year} WHERE id='snow'")
    new = f"sqlite:///{tmp_path}/new.db"
    every = run(store, "export", "--all").stdout
    assert told(new, "import", "-", stdin=every)["imported"] == 4
    assert told(new, "list") == told(store, "list")
    assert run(new, "export", "--all").stdout == every
    counts = told(new, "prune", "--older-than", "30d", "--dry-run")
    assert counts == told(store, "prune", "--older-than", "30d", "--dry-run")
    assert counts["sessions"] > 0


def test_export_needs_to_know_what(store: str, tmp_path: Path) -> None:
    """Either ids or --all; an id that is unknown leaves the file of before as it was."""
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    assert run(store, "export").exit_code == 2
    assert run(store, "export", "snow", "--all").exit_code == 2
    result = run(store, "export", "snow", "nothing", "-o", str(file))
    assert (result.exit_code, file.read_text()) == (1, "before")
    assert run(store, "export", "snow", "-o", str(tmp_path)).exit_code == 2
    gone = run(store, "export", "snow", "-o", str(tmp_path / "no" / "file"))
    assert (gone.exit_code, "No such file" in gone.stderr) == (1, True)


def test_an_exported_file_is_replaced_at_the_end(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is whole or as it was, and private; a link stays one, and a pipe is written to."""
    file, link = tmp_path / "out.jsonl", tmp_path / "link"
    link.symlink_to(file)
    result = run(store, "export", "--all", "-o", str(link))
    assert (result.exit_code, result.stderr) == (0, "sessions exported: 4\n")
    assert link.is_symlink()
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_text()
    assert len(before.splitlines()) == 12
    link.unlink()
    link.symlink_to(link)  # leads nowhere
    assert run(store, "export", "--all", "-o", str(link)).exit_code == 0
    assert link.read_text() == file.read_text()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        assert run(store, "export", "--all", "-o", str(pipe)).exit_code == 0
        assert reader.stdout is not None
        assert reader.stdout.read() == before

    async def fails(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AdminStore, "export_snapshot", fails)
    full = run(store, "export", "--all", "-o", str(file))
    assert (full.exit_code, "No space left" in full.stderr) == (1, True)
    assert file.read_text() == before
    assert sorted(each.name for each in tmp_path.iterdir() if "jsonl" in each.name) == ["out.jsonl"]


def test_a_session_that_vanishes_is_left_out_of_an_export(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deleted between the list and its turn to be read is not in the file."""
    lines = AdminStore.export_snapshot

    async def vanishing(self: AdminStore, session_id: str, owner: str = "") -> str | None:
        return None if session_id == "snow" else await lines(self, session_id, owner)

    monkeypatch.setattr(AdminStore, "export_snapshot", vanishing)
    assert len(run(store, "export", "--all").stdout.splitlines()) == 9


def test_an_import_is_taken_up_by_repeating_it(store: str, tmp_path: Path) -> None:
    """What is there already is left alone; other messages, and deleted ids, are conflicts: 5."""
    lines = run(store, "export", "--all").stdout
    new = f"sqlite:///{tmp_path}/new.db"
    first = lines.splitlines(keepends=True)[:3]
    assert told(new, "import", "-", stdin="".join(first))["imported"] == 1
    assert told(new, "import", "-", stdin=lines)["unchanged"] == 1
    assert run(new, "delete", "snow", "--yes").exit_code == 0
    edit(new, lambda s: s.append("wind:1", TURN))
    again = run(new, "import", "-", "--json", stdin=lines)
    assert again.exit_code == 5
    assert sorted(json.loads(again.stdout)["conflicts"]) == ["snow", "wind:1"]
    assert again.stderr.count("is or was in use") == 2
    assert run(new, "import", "-", stdin=lines).exit_code == 5


HEAD = '{"hermes_session":1,"id":"x","title":null,"created_at":"2026-01-31T12:00:00+00:00"}\n'
ROW = '{"turn_id":"1","message":{"role":"user","content":"the key \\"hermes_session\\""}}\n'
WRONG = [
    (b"\xff\n", 1, "line 1 is not UTF-8"),
    (b'{"a":1}\n', 1, "line 1 is not the first line"),
    (b"hermes\n", 1, "line 1 is not a JSON object"),
    (b'"hermes_session"\n', 1, "line 1 is not a JSON object"),
    (f"{HEAD}{ROW}\n{HEAD}{{\n".encode(), 1, "begins in line 4: line 2 is not a JSON object"),
    (f'{HEAD}{ROW}{{"hermes_session"\n'.encode(), 1, "line 3 is not a JSON object"),
    (HEAD.replace('"x"', '"x","owner":7').encode(), 1, "line 1 has an owner that is not a text"),
    (HEAD.replace('"x"', f'"x","owner":"{"o" * 256}"').encode(), 1, "line 1: owner has 256"),
    (HEAD.replace('"x"', '""').encode() + ROW.encode(), 1, "line 1 does not have a valid id"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "code", "said"), WRONG, ids=[each[2] for each in WRONG])
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes, code: int, said: str) -> None:
    """A file that is something else is told by its line, and what came before it was stored."""
    file = tmp_path / "in.jsonl"
    file.write_bytes(content)
    result = run(f"sqlite:///{tmp_path}/new.db", "import", str(file))
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
    assert ("sessions imported: 1" in result.stderr) == ("begins in line 4" in said)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that no database has a place for is not read to its end."""
    monkeypatch.setattr(jsonl, "MAX_LINE", 300)
    new = f"sqlite:///{tmp_path}/new.db"
    assert told(new, "import", "-", stdin=HEAD + ROW)["imported"] == 1
    endless = run(new, "import", "-", stdin=HEAD + "x" * 500)
    assert (endless.exit_code, "line 2 is longer than 300 bytes" in endless.stderr) == (1, True)


def test_odd_files_are_imported(tmp_path: Path) -> None:
    """Empty lines, and sessions without a message, are passed over; --as is for one session."""
    new = f"sqlite:///{tmp_path}/new.db"
    odd = f"\n\n{HEAD}{HEAD}{ROW}\n"
    assert told(new, "import", "-", stdin=odd)["empty"] == 1
    assert told(new, "import", "-", stdin="")["imported"] == 0
    assert told(new, "import", "-", "--as", "y", stdin=HEAD + ROW)["imported"] == 1
    refused = run(new, "import", "-", "--as", "z", stdin=odd)
    assert (refused.exit_code, "one session" in refused.stderr) == (2, True)
    assert run(new, "import", str(tmp_path / "nothing")).exit_code == 2
    assert run(new, "import", "-", "--as", "", stdin=HEAD + ROW).exit_code == 2


def test_delete_says_what_was_not_there(store: str) -> None:
    """Ids that are unknown are told, exit code 1, and the others are deleted all the same."""
    result = run(store, "delete", "snow", "nothing", "snow", "--yes")
    assert (result.exit_code, result.stdout) == (1, "1 session deleted\n")
    assert result.stderr == "Error: there is no session 'nothing'\n"
    assert told(store, "delete", "wind:1", "--yes") == {"deleted": ["wind:1"], "missing": []}
    none = run(store, "delete", "nothing")
    assert (none.exit_code, none.stdout) == (1, "0 sessions deleted\n")


def test_a_session_that_another_deletes_meanwhile_is_missing(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is gone when its turn comes was not deleted here, and is told so."""

    async def too_late(*_: Any) -> bool:
        return False

    monkeypatch.setattr(AdminStore, "delete", too_late)
    assert run(store, "delete", "snow", "--yes").exit_code == 1


def test_nothing_is_deleted_unasked(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal and without --yes nothing is deleted: exit code 2."""
    sql(store, "UPDATE hermes_sessions SET updated_at = '2001-02-03 04:05:06'")
    for command in (["delete", "snow"], ["prune", "--older-than", "30d"]):
        result = run(store, *command)
        assert (result.exit_code, "--yes" in result.stderr) == (2, True)
    monkeypatch.setattr(sys, "stdin", None)  # as where it was closed
    with pytest.raises(Exception, match="--yes"):
        terminal.confirm("All?", yes=False)
    assert len(told(store, "list")["sessions"]) == 4


def test_prune_counts_before_it_removes(store: str) -> None:
    """A dry run counts what a run then removes; nothing that is old asks nobody."""
    sql(store, "UPDATE hermes_sessions SET updated_at = '2001-02-03 04:05:06' WHERE owner = 'bob'")
    dry = run(store, "prune", "--older-than", "30d", "--dry-run")
    assert dry.stdout == "2 sessions with 4 messages would be pruned\n"
    assert told(store, "prune", "--older-than", "30d", "--owner", "ada")["sessions"] == 0
    edit(store, lambda s: s.delete("wind:1"))
    sql(store, "UPDATE hermes_sessions SET updated_at = '2001-02-03 04:05:06' WHERE id = 'wind:1'")
    said = run(store, "prune", "--older-than", "2w", "--yes").stdout
    assert said == "2 sessions with 4 messages, 1 unused id pruned\n"
    assert (
        run(store, "prune", "--older-than", "30d").stdout == "0 sessions with 0 messages pruned\n"
    )
    assert [each["id"] for each in told(store, "list")["sessions"]] == ["rain"]


def test_sessions_expire_by_their_settings(store: str) -> None:
    """The command sets them for sessions and owners, shows them, and prunes what has expired."""
    made = run(store, "expire", "wind:1", "--after", "1h")
    assert (made.exit_code, "expiry=True" in made.stderr) == (3, True)
    engine = create_engine(store)
    with engine.begin() as connection:
        migrations.upgrade(connection, expiry=True)
    engine.dispose()
    assert run(store, "expire", "wind:1", "--after", "1h").stdout == "set for 1 session\n"
    assert told(store, "expire", "--owner", "ada", "--after", "never") == {
        "ids": [],
        "owner": "ada",
        "expires_after": "never",
    }
    (session,) = told(store, "list", "--owner", "")["sessions"]
    hour = datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(
        session["updated_at"]
    )
    assert (session["id"], hour) == ("wind:1", timedelta(hours=1))
    assert "expires      20" in run(store, "show", "wind:1").stdout
    assert run(store, "prune").stdout == "0 sessions with 0 messages pruned\n"
    sql(store, "UPDATE hermes_sessions SET updated_at = '2001-01-01 00:00:00'")
    assert told(store, "prune", "--dry-run")["sessions"] == 1
    # Both of Bob's have no setting.
    assert told(store, "prune", "--older-than", "1h", "--dry-run")["sessions"] == 3
    assert told(store, "prune", "--owner", "ada", "--dry-run")["sessions"] == 0
    assert run(store, "prune", "--yes").stdout.startswith("1 session with ")
    assert told(store, "prune", "--older-than", "1h", "--yes")["sessions"] == 2
    run(store, "expire", "--owner", "ada", "--after", "inherit")
    assert told(store, "prune", "--older-than", "1h", "--yes")["sessions"] == 1


@pytest.mark.parametrize("after", ["1", "soon", "0d", "-1d", "36501d", "999999999w", "2026-01-31"])
def test_a_setting_is_an_age_or_never(store: str, after: str) -> None:
    """Anything else is a wrong command line, and so is neither an id nor an owner."""
    assert run(store, "expire", "snow", "--after", after).exit_code == 2
    assert run(store, "expire", "--after", "1d").exit_code == 2


def test_sessions_are_labelled_and_listed_by_it(store: str) -> None:
    """The command sets labels and lists by them, over all owners as over one."""
    assert run(store, "label", "snow", "wind:1", "--tag", "Work", "--pin").stdout == (
        "2 sessions labelled\n"
    )
    (labelled,) = told(store, "label", "snow", "--tag", "x", "--untag", "WORK", "--set", "k=a=b",
        "--set", "j=1", "--shelve", "--title", "Snow")["sessions"]  # fmt: skip
    assert (labelled["title"], labelled["tags"], labelled["pinned"]) == ("Snow", ["x"], True)
    assert (labelled["shelved"], labelled["metadata"]) == (True, {"k": "a=b", "j": "1"})
    (after,) = told(store, "label", "snow", "--unset", "j", "--unset", "none")["sessions"]
    assert after == {**labelled, "metadata": {"k": "a=b"}}

    def ids(*options: str) -> list[tuple[str, str]]:
        sessions = told(store, "list", *options)["sessions"]
        return [(each["owner"], each["id"]) for each in sessions]

    assert ids("--tag", "work") == [("", "wind:1")] == ids("--pinned", "--not-shelved")
    assert ids("--metadata", "k=a=b") == [("bob", "snow")] == ids("--owner", "bob", "--shelved")
    assert ids("--tag", "x", "--tag", "work") == ids("--owner", "ada", "--pinned") == []
    rain = [("bob", "rain"), ("ada", "rain")]
    assert ids("--not-pinned") == rain
    assert ids("--order", "pinned") == [("", "wind:1"), ("bob", "snow"), *rain]
    pages: list[tuple[str, str]] = []
    page = told(store, "list", "--order", "pinned", "--limit", "1")
    while True:
        pages += [(each["owner"], each["id"]) for each in page["sessions"]]
        if page["cursor"] is None:
            break
        options = ("--order", "pinned", "--limit", "1", "--cursor", page["cursor"])
        page = told(store, "list", *options)
    assert pages == [("", "wind:1"), ("bob", "snow"), *rain]
    shown = run(store, "show", "snow").stdout
    assert "tags         x\n" in shown
    assert 'metadata     {"k": "a=b"}\n' in shown
    run(store, "label", "snow", "--no-title", "--unpin", "--unshelve")
    (bare,) = (told(store, "show", "snow")["session"],)
    assert (bare["title"], bare["pinned"], bare["first_words"]) == (None, False, "Rain?")


def test_first_words_stand_where_there_is_no_title(store: str) -> None:
    """A list has them in the title's place, and what is shown under a name of their own."""
    assert run(store, "list", "--owner", "").stdout.split()[9:11] == ["wind:1", "Rain?"]
    assert "first words  Rain?\n" in run(store, "show", "wind:1").stdout
    run(store, "label", "wind:1", "--title", "Wind")
    assert run(store, "list", "--owner", "").stdout.split()[9:11] == ["wind:1", "Wind"]
    assert "first words" not in run(store, "show", "wind:1").stdout


NO_LABELS = [
    [], ["--tag", ""], ["--tag", "x" * 65], ["--set", "k"], ["--set", f"k={'x' * 513}"],
    ["--title", "x", "--no-title"], ["--title", "x" * 501],
]  # fmt: skip


@pytest.mark.parametrize("options", NO_LABELS, ids=range(len(NO_LABELS)))
def test_what_is_no_label_is_a_wrong_command_line(store: str, options: list[str]) -> None:
    """It is told on one line with the code 2, before anything is changed."""
    assert run(store, "label", "snow", *options).exit_code == 2
    assert run(store, "list", "--tag", "").exit_code == 2
    assert run(store, "label", "none", "--pin").exit_code == 1


def test_a_pair_is_set_beside_what_the_application_has(store: str) -> None:
    """Values that are no texts stay, and their keys are refused."""
    state = {"state": [1], "k": "v"}
    edit(store, lambda opened: opened.set_metadata("snow", state, "bob"))
    assert run(store, "label", "snow", "--unset", "k", "--set", "j=w").exit_code == 0
    for options in (["--set", "state=x"], ["--unset", "state"]):
        refused = run(store, "label", "snow", *options)
        assert (refused.exit_code, refused.stderr) == (
            1,
            "Error: metadata: the application has a value of its own under a key\n",
        )
    many = [f"--set=k{number}=v" for number in range(16)]
    assert run(store, "label", "snow", *many).exit_code == 1
    found = edit(store, lambda opened: opened.find_metadata("snow", "bob"))
    assert found == {"state": [1], "j": "w"}


def test_an_owner_is_erased(store: str) -> None:
    """All of one owner goes, once the question is answered; what has no owner is asked for so."""
    asked = run(store, "erase", "--owner", "ada")
    assert (asked.exit_code, "give --yes" in asked.stderr) == (2, True)
    for wrong in ([], ["--owner", ""], ["--owner", "ada", "--ownerless"]):
        assert run(store, "erase", *wrong, "--yes").exit_code == 2
    owned = len(told(store, "list", "--owner", "ada")["sessions"])
    others = [each for each in told(store, "list")["sessions"] if each["owner"] != "ada"]
    receipt = told(store, "erase", "--owner", "ada", "--yes")
    assert (receipt["sessions"], receipt["messages"], receipt["ids"]) == (owned, 2 * owned, 0)
    assert told(store, "list")["sessions"] == others
    said = run(store, "erase", "--owner", "ada", "--no-vacuum", "--yes")
    assert said.stdout == "0 sessions with 0 messages erased\n"
    left = [each for each in others if each["owner"]]
    assert told(store, "erase", "--ownerless", "--yes")["sessions"] == len(others) - len(left)
    assert told(store, "list")["sessions"] == left


def test_a_store_is_encrypted_and_its_key_turned(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys come from a file or the environment; without them what is encrypted is not shown."""
    one, two = (f"k{number}:{b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
    keys, both = tmp_path / "keys", tmp_path / "both"
    keys.write_text(one)
    both.write_text(f"{two}\n{one}\n")
    for file in (keys, both):
        file.chmod(0o600)
    for command in ("encrypt", "rewrap", "decrypt"):
        refused = run(store, command, "--yes")
        assert (refused.exit_code, "--keys-file" in refused.stderr) == (2, True)
    assert run(store, "export", "--all", "-o", str(tmp_path / "before.jsonl")).exit_code == 0
    asked = run(store, "encrypt", "--keys-file", str(keys))
    assert (asked.exit_code, "Encrypt 8 rows? There is no terminal" in asked.stderr) == (2, True)
    done = {"encrypted": 8, "problems": []}
    assert told(store, "encrypt", "--yes", "--keys-file", str(keys)) == done
    assert run(store, "encrypt", "--keys-file", str(keys)).stdout == "0 rows encrypted\n"
    assert told(store, "list")["sessions"]  # no session has a title
    refused = run(store, "show", "snow")
    assert (refused.exit_code, "encryption=" in refused.stderr) == (3, True)
    assert run(store, "check").exit_code == 3
    assert told(store, "check", "--keys-file", str(keys))["problems"] == []
    for command, what in (("rewrap", "Rewrap 4 data keys?"), ("decrypt", "Store 8 rows plain?")):
        asked = run(store, command, "--keys-file", str(both))
        assert (asked.exit_code, what in asked.stderr) == (2, True)
    assert run(store, "rewrap", "-y", "--keys-file", str(both)).stdout == "4 data keys rewrapped\n"
    refused = run(store, "--keys-file", str(keys), "show", "snow")
    assert (refused.exit_code, "'k2' is not in the keyring" in refused.stderr) == (3, True)
    assert run(store, "show", "snow", "--keys-file", str(tmp_path / "none")).exit_code == 2

    monkeypatch.setenv("HERMES_ENCRYPTION_KEYS", two)
    assert "Yes, rain." in run(store, "show", "snow").stdout
    assert run(store, "export", "--all", "-o", str(tmp_path / "after.jsonl")).exit_code == 0
    exports = [(tmp_path / f"{name}.jsonl").read_text() for name in ("before", "after")]
    assert exports[0] == exports[1]
    sql(store, "UPDATE hermes_sessions SET data_key = 'k2.AAAA' WHERE id = 'snow'")
    broken = run(store, "decrypt", "--yes")
    assert (broken.exit_code, broken.stdout) == (1, "6 rows decrypted\n")
    assert broken.stderr.startswith("session snow of bob: ")


AGES = [
    *("", "0d", "-1d", "1.5h", "30", "d", "30 d", "30D", "1y", "\u0663d", "9999999999d"),
    *("999999999w", "20260131", "2026-1-31", "2026-02-30", "2026-W05-6", "2026-01-31T12:00"),
    *("2026-01-31 12:00Z", "2026-01-31T25:00Z", "9999-01-01", "1969-12-31", "1970-01-01"),
]


@pytest.mark.parametrize("age", AGES)
def test_an_age_is_what_it_says_or_nothing(store: str, age: str) -> None:
    """Ages and times that are not exactly as described are a usage error."""
    result = run(store, "prune", "--older-than", age, "--yes")
    assert (result.exit_code, "--older-than" in result.stderr) == (2, True)
    assert len(told(store, "list")["sessions"]) == 4


@pytest.mark.parametrize(
    "age", ["30d", "12h", "45m", "7777s", "2w", "999999999s", "2026-01-31", "2026-01-31T12:00Z",
            "2026-01-31T12:00:01+02:00"],
)  # fmt: skip
def test_ages_and_times_that_are_taken(store: str, age: str) -> None:
    """Ages in five units, days, and times with a zone are understood."""
    assert told(store, "prune", "--older-than", age)["sessions"] == 0


def test_check_lists_problems(store: str) -> None:
    """Each problem is a line, or an object, that names its session; the exit code is 1."""
    assert run(store, "check").stdout == "sessions checked: 4; problems: 0\n"
    sql(store, "UPDATE hermes_messages SET body = 'x' WHERE session_id = 'snow' AND seq = 1")
    sql(store, "UPDATE hermes_messages SET body = 'x' WHERE session_id = 'wind:1' AND seq = 1")
    result = run(store, "check")
    assert result.exit_code == 1
    assert result.stdout == (
        "session wind:1: message 1 is not a JSON object\n"
        "session snow of bob: message 1 is not a JSON object\n"
        "sessions checked: 4; problems: 2\n"
    )
    sql(store, "DROP TABLE hermes_keys")
    result = run(store, "check", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == [
        {"problem": "the table hermes_keys is missing", "session_id": None, "owner": None}
    ]
    assert run(store, "check").stdout.startswith("the table hermes_keys is missing\n")
    sql(store, "DROP TABLE hermes_messages")
    sql(store, "DROP TABLE hermes_archive")
    sql(store, "DROP TABLE hermes_sessions")
    assert json.loads(run(store, "check", "--json").stdout)["sessions"] == 0


OTHERS = [
    "hermes_sessions SET created_at = 'some day'",
    "hermes_sessions SET updated_at = 5",
    "hermes_sessions SET turns = 'many'",
    "hermes_sessions SET title = x'ff00'",
]


@pytest.mark.parametrize("change", OTHERS)
def test_a_row_with_a_value_of_another_type_is_told(store: str, change: str) -> None:
    """SQLite keeps such values; the session is named by check, and elsewhere it is damage: 3."""
    sql(store, f"UPDATE {change} WHERE id = 'snow'")
    checked = run(store, "check")
    assert checked.exit_code == 1
    assert checked.stdout.startswith(
        "session snow of bob: a row of hermes_sessions has a value of another type\n"
    )
    for command in (["list"], ["show", "snow"], ["export", "snow"]):
        result = run(store, *command)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("Error: a session's row has a value of another type")


def test_a_counter_with_a_value_of_another_type_is_told(store: str) -> None:
    """It is no session's, and check names its table."""
    sql(store, "INSERT INTO hermes_counters (name, value) VALUES ('fence', 'many')")
    checked = run(store, "check")
    assert checked.exit_code == 1
    assert checked.stdout.startswith("a row of hermes_counters has a value of another type\n")


def test_a_message_that_is_none_is_shown_all_the_same(store: str) -> None:
    """What stands in a message's place and is no object is shown as it is."""
    sql(store, "UPDATE hermes_messages SET body = '7' WHERE session_id = 'snow'")
    assert run(store, "show", "snow").stdout.endswith("\n[2] (no role)\n    7\n")


COMMANDS = [
    ["list"],
    ["show", "x"],
    ["export", "--all"],
    ["stats"],
    ["check"],
    ["delete", "x", "--yes"],
    ["label", "x", "--pin"],
    ["prune", "--older-than", "1d", "--yes"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, command: list[str]) -> None:
    """Every command but import fails with 3 where there is no file, and makes none."""
    result = run(f"sqlite:///{tmp_path}/none.db", *command)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: there is no file ")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_tables_that_are_not_there_are_not_made(tmp_path: Path, command: list[str]) -> None:
    """A database without the tables stays without: 3, and for check a list of what is missing."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    result = run(f"sqlite:///{path}", *command)
    assert result.exit_code == (1 if command == ["check"] else 3)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("other",)]


PASSWORDS = [
    ("postgresql+psycopg://me:hunter%402@127.0.0.1:1/db?connect_timeout=1", 3),
    ("mysql+pymysql://me:hunter%402@127.0.0.1:1/db", 3),
    ("postgresql+psycopg://127.0.0.1:1/db?password=hunter%402", 3),
    ("oracle://me:hunter%402@127.0.0.1/db", 2),
    ("postgresql//me:hunter@2@127.0.0.1/db", 2),
    ("postgresql+nothing://me:hunter%402@127.0.0.1/db", 2),
    ("sqlite://me:hunter%402@127.0.0.1/db", 2),
    ("sqlite://", 2),
    ("", 2),
    ("hermes:", 2),
]


@pytest.mark.parametrize(("url", "code"), PASSWORDS)
def test_a_store_that_cannot_be_used_is_told_without_its_password(url: str, code: int) -> None:
    """Unreachable is 3, a URL that cannot be is 2: one line each, and no password in it."""
    result = run(url, "list")
    assert (result.exit_code, result.stdout) == (code, "")
    assert "hunter" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: ")


def test_stats_tell_the_store_without_its_password(postgres_server: URL) -> None:
    """The URL that is told has stars where its passwords were."""
    with postgres.database(postgres_server) as url:
        fill(url, ("ada", "rain"))
        secret = url.set(password="hunter2")
        assert told(secret, "stats")["store"] == url.set(password="x").render_as_string()
        assert "hunter2" not in run(secret, "stats").stdout


def test_a_session_that_is_busy_with_another_id(store: str) -> None:
    """A conflict while importing under a taken id is told, and changes nothing."""
    line = run(store, "export", "snow").stdout.replace("Rain", "Hail")
    result = run(store, "import", "-", stdin=line)
    assert (result.exit_code, "Error: snow is or was in use" in result.stderr) == (5, True)
    assert told(store, "show", "snow")["messages"] == TURN


def test_hermes_own_database_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hermes' state.db is listed, shown, counted, checked and exported, and not changed by it."""
    path = copy_to(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(hermes_source, "MAX_PAGE", 2)  # so that there are more pages than one
    store = f"hermes:{path}"
    page = told(store, "list", "--limit", "2")
    assert [each["owner"] for each in page["sessions"]] == [None, None]
    rest = told(store, "list", "--cursor", page["cursor"])["sessions"]
    totals = told(store, "stats")
    assert totals["sessions"] == 2 + len(rest)
    assert (totals["store"], totals["turns"], totals["bytes"]) == (store, None, {})
    assert "turns" not in run(store, "stats").stdout
    shown = run(store, "show", COMPRESSED)
    assert "messages     4\n" in shown.stdout
    assert f"id           {COMPRESSED}" in shown.stdout
    assert run(store, "list").stdout.splitlines()[0].startswith("ID")
    assert told(store, "check") == {"sessions": totals["sessions"], "problems": []}
    assert run(store, "show", "nothing").exit_code == 1
    assert told(store, "list", "--owner", "nobody") == {"sessions": [], "cursor": None}
    exported = tmp_path / "exported.jsonl"
    assert run(store, "export", "--all", "--output", str(exported)).exit_code == 0
    assert run(store, "export", COMPRESSED).stdout in exported.read_text()
    other = f"sqlite:///{tmp_path}/other.db"
    assert run(other, "import", str(exported)).exit_code == 0
    assert run(store, "export", "nothing").exit_code == 1
    ids = {each["id"] for each in told(other, "list")["sessions"]}
    assert ids == {each["id"] for each in (*page["sessions"], *rest)}
    assert path.read_bytes() == before


ONLY_READ = ": Hermes Agent's database is only read here"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["import", "-"], f"import{ONLY_READ}"),
        (["prune", "--older-than", "1d", "--yes"], f"prune{ONLY_READ}"),
        (["delete", "x", "--yes"], f"delete{ONLY_READ}"),
        (["erase", "--owner", "u7", "--yes"], f"erase{ONLY_READ}"),
        (["search", "rain"], "search: Hermes Agent's database is not searched here"),
        (["search-index"], "search-index: Hermes Agent's database is not searched here"),
        (["label", "x", "--pin"], f"label{ONLY_READ}"),
        (["list", "--tag", "x"], "HermesStateStore does not support list() by labels"),
        (["show", COMPRESSED, "--archived"], "HermesStateStore does not support archived()"),
        (["list", "--owner", ""], "HermesStateStore does not support list() of what has no owner"),
    ],
    ids=[
        "import",
        "prune",
        "delete",
        "erase",
        "search",
        "search-index",
        "label",
        "list-tag",
        "show",
        "list",
    ],
)
def test_what_hermes_database_cannot_is_told(tmp_path: Path, command: list[str], told: str) -> None:
    """What the command does only in this package's own tables is one line and the code 4."""
    result = run(f"hermes:{copy_to(tmp_path)}", *command)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == f"Error: {told}\n"


def test_damage_in_hermes_database_is_told(tmp_path: Path) -> None:
    """A message or an id that cannot be read is a problem; a file that is not Hermes' is 3."""
    path = copy_to(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        damaged = "UPDATE messages SET tool_call_id = CAST(x'ff' AS TEXT) WHERE session_id = ?"
        connection.execute(damaged, (WEATHER,))
        long = "INSERT INTO sessions (id, source, started_at) VALUES (?, 'cli', 1)"
        connection.execute(long, ("x" * 257,))
    result = run(f"hermes:{path}", "check")
    assert result.exit_code == 1
    assert f"session {WEATHER}: " in result.stdout
    assert "session_id has 257 characters" in result.stdout
    assert result.stdout.endswith("problems: 2\n")
    result = run(f"hermes:{path}", "export", "--all")
    assert result.exit_code == 1
    assert result.stdout.count('"hermes_session"') == 2
    assert f"session {WEATHER}: " in result.stderr
    assert result.stderr.endswith("sessions that could not be read: 2\n")
    path.write_bytes(b"no database " * 1000)
    result = run(f"hermes:{path}", "check", "--json")
    assert (result.exit_code, len(json.loads(result.stdout)["problems"])) == (1, 1)
    assert run(f"hermes:{tmp_path}/none.db", "check").exit_code == 3
    assert run(f"hermes:{tmp_path}/none.db", "list").exit_code == 3


async def test_a_command_inside_of_an_event_loop_says_what_to_do(tmp_path: Path) -> None:
    """In a notebook, or in Pyodide, it is one line and an exit code, not a traceback."""
    (tmp_path / "empty.db").touch()
    done = run(f"sqlite:///{tmp_path}/empty.db", "stats")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "await the store's methods" in done.stderr


def test_click_is_optional() -> None:
    """The package does without click, and the command says how to get it: 127."""
    code = "import sys\nfrom hermes_session_mw import *\nassert 'click' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
    for missing, said, returned in (
        ("click", "Error: click is missing: pip install 'hermes_session_mw[cli]'\n", 127),
        ("shutil", "shutil", 1),  # no other module is taken for it
    ):
        code = (
            "import sys, hermes_session_mw.cli as command;"
            f"sys.modules[{missing!r}] = None; command.main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (returned, True), done.stderr


def test_search_finds_what_search_index_has_indexed(store: str) -> None:
    """The index is made on demand; hits are a table for people, and JSON for programs."""
    missing = run(store, "search", "rain")
    assert (missing.exit_code, "search-index" in missing.stderr) == (3, True)
    assert told(store, "search-index") == {"indexed": 8}
    assert run(store, "search-index").stdout == "messages indexed: 0\n"
    headers, first, second = run(store, "search", "rain", "--owner", "ada").stdout.splitlines()
    assert headers.split()[:4] == ["SESSION", "OWNER", "MESSAGE", "ROLE"]
    assert {first.split("  ")[-1], second.split("  ")[-1]} == {"[Rain]?", "Yes, [rain]."}
    page = told(store, "search", "yes", "ain", "--owner", "bob", "--limit", "1", "--since", "1h")
    (hit,) = page["hits"]
    assert (hit["index"], hit["role"], hit["marks"]) == (1, "assistant", [[0, 3], [6, 9]])
    rest = run(store, "search", "yes", "ain", "--owner", "bob", "--cursor", page["cursor"])
    assert len(rest.stdout.splitlines()) == 2
    only = told(store, "search", "rain", "--session", "wind:1", "--role", "user")["hits"]
    assert [(each["session_id"], each["owner"], each["index"]) for each in only] == [
        ("wind:1", "", 0)
    ]
    assert told(store, "search", "rain", "--session", "none")["hits"] == []
    several = run(store, "search", "rain", "--session", "rain")
    assert (several.exit_code, "choose one with --owner" in several.stderr) == (2, True)
    nothing = run(store, "search", "rain", "--owner", "eve")
    assert (nothing.exit_code, nothing.stderr) == (0, "nothing was found\n")
    assert run(store, "search", "rain", "--cursor", "made-up").exit_code == 2
    assert run(store, "search", "a" * 300).exit_code == 2
    # Another process's new messages are found too, and what is printed cannot control a terminal.
    edit(
        store, lambda opened: opened.append("new", [{"role": "user", "content": f"hue {HOSTILE}"}])
    )
    assert "\x1b" not in run(store, "search", "hue").stdout
    assert len(told(store, "search", "hue")["hits"]) == 1
    assert run(store, "search-index", "--drop").stdout == "the search index is dropped\n"
    assert run(store, "search", "hue").exit_code == 3


def test_search_finds_the_messages_of_all_owners(store: str) -> None:
    """Without an owner, as every subcommand: one owner after another, on pages that follow."""
    assert run(store, "search-index").exit_code == 0
    expected = [("", "wind:1")] * 2 + [("ada", "rain")] * 2 + [("bob", "rain"), ("bob", "snow")] * 2

    def found(*options: str) -> list[tuple[str, str]]:
        hits = told(store, "search", "rain", *options)["hits"]
        return [(each["owner"], each["session_id"]) for each in hits]

    assert sorted(found("--all-owners")) == sorted(expected) == sorted(found())
    assert set(found("--owner", "")) == {("", "wind:1")}
    for size in (1, 2, 3, 8):
        pages: list[tuple[str, str]] = []
        cursor: list[str] = []
        while True:
            page = told(store, "search", "rain", "--limit", str(size), *cursor)
            pages += [(each["owner"], each["session_id"]) for each in page["hits"]]
            if page["cursor"] is None:
                break
            cursor = ["--cursor", page["cursor"]]
        assert sorted(pages) == sorted(expected)
        assert [owner for owner, _ in pages] == sorted(owner for owner, _ in expected)
    assert run(store, "search", "rain", "--owner", "a", "--all-owners").exit_code == 2
    everybodys = told(store, "search", "rain", "--limit", "1")["cursor"]
    assert run(store, "search", "rain", "--owner", "ada", "--cursor", everybodys).exit_code == 2
    assert run(store, "search", "rain", "--cursor", "bnVsbA==").exit_code == 2


@pytest.mark.parametrize("options", [[], ["--tag", "a"], ["--pinned"], ["--order", "pinned"]])
def test_a_list_says_that_there_are_no_tables(tmp_path: Path, options: list[str]) -> None:
    """A database without tables is none without sessions, whichever list is asked for."""
    (tmp_path / "empty.db").touch()
    result = run(f"sqlite:///{tmp_path}/empty.db", "list", *options)
    assert (result.exit_code, "tables are missing" in result.stderr) == (3, True)


def test_the_script_is_the_command() -> None:
    """What an installation puts on the PATH is ``hermes-sessions``, and it is this command."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"hermes-sessions": f"{main.__module__}:{main.__name__}"}
    assert [each.split(">")[0] for each in project["optional-dependencies"]["cli"]] == ["click"]


def test_the_help_says_the_exit_codes() -> None:
    """``--help`` has the exit codes, and each subcommand a line."""
    said = run("", "--help").stdout
    for code in (0, 1, 2, 3, 4, 5, 127, 130, 141):
        assert f"\n    {code} " in said
    assert set(cli.commands) == {
        "check",
        "completion",
        "decrypt",
        "delete",
        "encrypt",
        "erase",
        "expire",
        "export",
        "import",
        "label",
        "list",
        "prune",
        "rewrap",
        "search",
        "search-index",
        "show",
        "stats",
    }
