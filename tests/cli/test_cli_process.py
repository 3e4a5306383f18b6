"""``hermes-sessions`` as a process: at a terminal, in a pipe, interrupted, and in a shell."""

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from hermes_session_mw.cli.text import cut, escaped, escaped_lines, table, width_of
from tests.stores.hermes_state.agent import COMPRESSED, copy_to
from tests.support import postgres
from tests.support.command import (
    COMMAND,
    at_terminal,
    environment,
    fill,
    run,
    script_in,
    start,
    told,
)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with two sessions."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    fill(url, ("ada", "rain:1"), ("bob", "rain:2"))
    return url


@pytest.fixture
def many(tmp_path: Path) -> str:
    """A store with so many sessions that work on them takes a while."""
    url = f"sqlite:///{tmp_path}/many.db"
    fill(url, ("ada", "rain"))
    with closing(sqlite3.connect(tmp_path / "many.db")) as connection, connection:
        for table_, columns in (
            ("sessions", "'n' || n, next_seq, turns, '2001-02-03 04:05:06', '2001-02-03 04:05:06'"),
            ("messages", "'n' || n, seq, turn_id, body"),
        ):
            names = {"sessions": "id, next_seq, turns, created_at, updated_at",
                     "messages": "session_id, seq, turn_id, body"}[table_]  # fmt: skip
            connection.execute(
                "WITH RECURSIVE numbers (n) AS"
                " (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 150)"
                f" INSERT INTO hermes_{table_} (owner, {names})"
                f" SELECT owner, {columns} FROM hermes_{table_}, numbers"
            )
    return url


def test_a_question_comes_before_anything_is_deleted(store: str) -> None:
    """At a terminal it is asked; no, nothing, and what is no yes leave all as it was."""
    for answer, code, said in (
        ("n\n", 1, "nothing was deleted"),
        ("\x04", 1, "nothing was deleted"),
        ("y\n", 0, "1 session deleted"),
    ):
        with at_terminal(*COMMAND, "--store", store, "delete", "rain:1") as terminal:
            terminal.wait_for("Delete 1 session with 2 messages? [y/N] ")
            terminal.type(answer)
            assert (terminal.end(), said in terminal.seen) == (code, True), terminal.seen
    assert [each["id"] for each in told(store, "list")["sessions"]] == ["rain:2"]


def test_ctrl_c_at_the_question_deletes_nothing(store: str) -> None:
    """Ctrl-C ends the command with 130 and one line, and nothing was done."""
    with at_terminal(*COMMAND, "--store", store, "delete", "rain:1") as terminal:
        terminal.wait_for("[y/N] ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert terminal.plain.splitlines()[-1].endswith("Error: interrupted")
        assert "Traceback" not in terminal.seen
    assert len(told(store, "list")["sessions"]) == 2


def test_long_work_shows_a_bar(many: str, tmp_path: Path) -> None:
    """Export, import, check, prune and delete show on a terminal how far they are."""
    file = str(tmp_path / "all.jsonl")
    new = f"sqlite:///{tmp_path}/new.db"
    long = "x" * 100_000
    every = [f"n{n}" for n in range(1, 151)]
    for url, label, arguments in (
        (many, "Exporting", ["export", "--all", "-o", file]),
        (many, "Checking", ["check"]),
        (new, "Importing", ["import", f"{file}.long"]),
        (new, "Deleting", ["delete", "--yes", *every[:120]]),
        (many, "Pruning", ["prune", "--older-than", "30d", "--yes"]),
    ):
        if label == "Importing":
            lines = Path(file).read_text().replace("Yes, rain.", long)
            Path(f"{file}.long").write_text(lines)
        with at_terminal(*COMMAND, "--store", url, *arguments) as terminal:
            assert terminal.end() == 0, terminal.seen
            assert label in terminal.plain
            assert "100%" in terminal.plain, terminal.plain
    assert [each["id"] for each in told(many, "list")["sessions"]] == ["rain"]
    assert told(new, "stats")["sessions"] == 31


def test_a_table_is_cut_to_the_terminal(store: str) -> None:
    """On a terminal of 100 columns no line is wider, and elsewhere nothing is cut."""
    title = "長い題名 " * 30
    fill(store, ("x" * 200, "y" * 200))
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE hermes_sessions SET title = ?", (title,))
    for columns in (100, 20):
        with at_terminal(*COMMAND, "--store", store, "list", columns=columns) as terminal:
            assert terminal.end() == 0
            lines = terminal.plain.splitlines()
        assert len(lines) == 4
        assert "…" in lines[1]
        if columns >= 100:
            assert all(width_of(line) <= columns for line in lines)
    whole = run(store, "list").stdout
    assert title.strip() in whole
    assert "y" * 200 in whole


def test_an_export_to_a_terminal_is_harmless(tmp_path: Path) -> None:
    """What a terminal could act on is written otherwise, and says the same."""
    store = f"sqlite:///{tmp_path}/sessions.db"
    fill(store, ("", "rain"))
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as connection, connection:
        connection.execute('UPDATE hermes_messages SET body = \'{"a":"\x9b31m\u202e"}\'')
    with at_terminal(*COMMAND, "--store", store, "export", "rain") as terminal:
        assert terminal.end() == 0
        assert set(terminal.seen).isdisjoint("\x9b\u202e")
        assert json.loads(terminal.seen.splitlines()[1])["message"] == {"a": "\x9b31m\u202e"}


@pytest.mark.parametrize("command", [["list"], ["export", "--all"], ["list", "--json"]])
def test_a_closed_pipe_is_quiet(store: str, command: list[str]) -> None:
    """Whoever stops reading ends the command: without a word, with 141."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start(store, *command, stdout=writing)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (141, "")


def test_streams_may_be_closed(store: str, tmp_path: Path) -> None:
    """Without a stdout a result is an error, and without a stdin there is nothing to read."""
    path, file = script_in(tmp_path), tmp_path / "file"
    for line, code, said in (
        ("list >&-", 1, "Error: the standard output is closed\n"),
        ("export --all >&-", 1, "Error: the standard output is closed\n"),
        ("import - <&-", 0, ""),
        ("delete rain:1 <&-", 2, "--yes"),
        ("delete nothing 2>&-", 1, ""),
        (f"export --all -o {file} <&- >&- 2>&-", 0, ""),
        ("export --all -o /dev/stdout | grep -c turn_id", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", f"hermes-sessions {line}"],
            env=environment(PATH=path, HERMES_STORE=store),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (code, True), (line, done.stderr)
        assert "Traceback" not in done.stderr
    assert done.stdout == "4\n"
    assert len(file.read_text().splitlines()) == 6


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_ctrl_c_ends_a_wait_for_the_database(postgres_server: URL, driver: str) -> None:
    """A command that waits for another's lock ends at once, with 130, and has done nothing."""
    with postgres.database(postgres_server) as url:
        fill(url, ("ada", "rain"))
        engine = create_engine(url)
        with engine.connect() as connection:
            connection.execute(text("LOCK TABLE hermes_sessions IN ACCESS EXCLUSIVE MODE"))
            other = url.set(drivername=f"postgresql+{driver}")
            process = start(other.render_as_string(hide_password=False), "delete", "rain", "--yes")
            _wait(lambda: _is_waiting(postgres_server, url))
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
            assert (process.returncode, said) == (130, "Error: interrupted\n")
        engine.dispose()
        assert len(told(url, "list")["sessions"]) == 1


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_ctrl_c_ends_a_wait_for_sqlites_lock(store: str, driver: str) -> None:
    """It ends a wait for another process that writes to the file as well, long before its time."""
    path = store.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        process = start(store.replace("sqlite", driver, 1), "delete", "rain:1", "--yes")
        _wait(lambda: _is_open(process.pid, f"{path}-turns"))  # its turn to write has come
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=45)  # of the 54 s that it would wait
        assert (process.returncode, said) == (130, "Error: interrupted\n")
        connection.execute("ROLLBACK")
    assert len(told(store, "list")["sessions"]) == 2


def test_ctrl_c_in_an_import_keeps_what_was_whole(store: str, tmp_path: Path) -> None:
    """Sessions that were read to their end are stored, and counted; the rest is not."""
    lines = run(store, "export", "--all").stdout
    path = tmp_path / "new.db"
    with start(f"sqlite:///{path}", "import", "-") as process:
        assert process.stdin is not None
        # The second session's end is not known yet, and what its last line begins with fits into no
        # pipe: once all is written, the command reads on, and has stored and counted the first.
        process.stdin.write(lines + "x" * 1_000_000)
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        process.stdin.close()  # for a read that began right before, without a look at signals
        assert process.stderr is not None
        assert process.stderr.read().startswith("before the error: sessions imported: 1,")
        assert process.wait(30) == 130
    assert _sessions(path) == 1
    assert told(f"sqlite:///{path}", "import", "-", stdin=lines)["unchanged"] == 1


def test_a_process_takes_its_store_from_the_environment(store: str) -> None:
    """HERMES_STORE names the store; without it, it is the middleware's own, in the folder."""
    listed = subprocess.run(
        [*COMMAND, "list"],
        env=environment(HERMES_STORE=store, PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rain:1" in listed.stdout
    missing = subprocess.run(
        [*COMMAND, "list"],
        env=environment(),
        cwd=Path(store.removeprefix("sqlite:///")).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 3
    assert missing.stderr.startswith("Error: there is no file ")


def test_a_process_may_be_told_to_ignore_ctrl_c(store: str) -> None:
    """Where SIGINT is ignored, as in the background of a script, it stays so."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "from hermes_session_mw.cli import main; sys.argv[1:] = ['--version'];\n"
        "try: main()\nfinally: print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    )
    done = subprocess.run(
        [COMMAND[0], "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "True"


# What bash does when somebody presses the tabulator, with its usual word breaks.
_PRESS = """
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
{script}
press() {{
    COMP_LINE="$1" COMP_POINT=${{#1}}
    _hermes_sessions_completion hermes-sessions
    printf '%s\\n' "${{COMPREPLY[@]}}"
}}
press {line}
"""


def press(store: str, folder: Path, line: str) -> list[str]:
    """Return what a real bash offers at the end of a line."""
    script = _PRESS.format(script=run("", "completion", "bash").stdout, line=shlex.quote(line))
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment(PATH=script_in(folder), HERMES_STORE=store),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_ids(store: str, tmp_path: Path) -> None:
    """Ids come from the store, without what bash has of them before a colon already."""
    assert sorted(press(store, tmp_path, "hermes-sessions show ra")) == ["rain:1", "rain:2"]
    assert press("sqlite://", tmp_path, f"hermes-sessions --store {store} delete rain:1") == ["1"]
    assert press(store, tmp_path, "hermes-sessions delete rain:1 ") == ["rain:2"]
    assert press(store, tmp_path, "hermes-sessions export --owner ada ") == ["rain:1"]
    assert press(store, tmp_path, "hermes-sessions sta") == ["stats"]
    assert press(store + ".none", tmp_path, "hermes-sessions show ") == []


def test_bash_at_a_terminal_completes_an_id(store: str, tmp_path: Path) -> None:
    """In an interactive bash the tabulator writes the rest of the id."""
    environ = {"PATH": script_in(tmp_path), "HERMES_STORE": store, "PS1": "$ ", "TERM": "dumb"}
    with at_terminal("bash", "--norc", "--noprofile", "-i", columns=200, **environ) as terminal:
        terminal.type('eval "$(hermes-sessions completion bash)"; echo rea""dy\n')
        terminal.wait_for("ready")
        terminal.type("hermes-sessions show --json --owner bob ra\t")
        terminal.wait_for("bob rain:2")
        terminal.type("\n")
        terminal.wait_for('"parent_id": null')
        terminal.type("exit\n")
        assert terminal.end() == 0


HOSTILE_IDS = ["$(id)", "a b", "a;b", "-x", "a/b", "é"]


def test_no_id_that_a_shell_could_act_on_is_offered(store: str, tmp_path: Path) -> None:
    """A shell puts what it is offered into its line as it is, so that only plain ids are."""
    fill(store, *[("", each) for each in HOSTILE_IDS])
    assert sorted(press(store, tmp_path, "hermes-sessions show ")) == ["rain:1", "rain:2"]


def test_scripts_for_other_shells() -> None:
    """Zsh and fish get click's own scripts, which call the same command."""
    for shell in ("zsh", "fish"):
        script = run("", "completion", shell).stdout
        assert f"_HERMES_SESSIONS_COMPLETE={shell}_complete" in script
    assert run("", "completion", "tcsh").exit_code == 2


def test_hermes_ids_are_completed(tmp_path: Path) -> None:
    """Ids of a Hermes Agent's sessions are offered too."""
    path = copy_to(tmp_path)
    offered = press(f"hermes:{path}", tmp_path, f"hermes-sessions show {COMPRESSED[:9]}")
    assert COMPRESSED in offered


def test_texts_are_made_safe_and_fit() -> None:
    """Texts lose what a terminal acts on, keep what scripts need, and are cut by their width."""
    assert escaped("a\tb\x00\u200d") == r"a\tb\x00\u200d"
    assert escaped_lines("क\u200dष\r\n\tb\x1b") == ["क\u200dष", r"    b\x1b"]
    assert (width_of("長e\u0301"), width_of("a\u200d")) == (3, 1)
    assert (cut("abc", 3), cut("abcd", 3), cut("長い題", 4), cut("長", 2)) == (
        "abc",
        "ab…",
        "長…",
        "長",
    )
    assert table(["A", "N"], [], None) == ["A  N"]
    assert table(["A", "N"], [["長いですよ長いです", 5]], 5) == ["A         N", "長いで…   5"]
    assert table(["NUMBER"], [[5]], 1) == ["NUMBER", "     5"]


def _sessions(path: Path) -> int:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        try:
            ((count,),) = connection.execute("SELECT count(*) FROM hermes_sessions")
        except sqlite3.OperationalError:
            return 0
        return int(count)


def _is_open(process: int, path: str) -> bool:
    links = Path(f"/proc/{process}/fd")
    return any(os.path.realpath(link) == path for link in links.iterdir())


def _is_waiting(server: URL, url: URL) -> bool:
    with postgres.connect(server) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            (url.database,),
        ).fetchone()
    return bool(found and found[0])


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
