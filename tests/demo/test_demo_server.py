"""The demo as a user runs it: a real server, and a restart between."""

import itertools
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import httpx2
import pytest
import uvicorn
from sqlalchemy import URL

from demo_app.__main__ import listen
from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.messages import Message
from tests.demo.test_demo import without_response
from tests.support.server import ROOT, demo, free_port, serving

HEADER = "X-Hermes-Session-Id"


def ask(url: str, text: str, **headers: str) -> httpx2.Response:
    body = {"messages": [{"role": "user", "content": text}]}
    return httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers)


def content(response: httpx2.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_conversation_goes_on_after_a_restart(
    database: str, tmp_path: Path, postgres_url: URL
) -> None:
    """The server is stopped and started, and the id that it gave still has its conversation."""
    options = ["--store", postgres_url.render_as_string(False)] if database != "sqlite" else []
    with demo(tmp_path, *options) as url:
        first = ask(url, "My name is Ada.")
        session_id = first.headers[HEADER]
        assert "first message" in content(first)
    with demo(tmp_path, *options) as url:
        second = ask(url, "And now?", **{HEADER: session_id})
        assert second.headers[HEADER] == session_id
        assert content(second).endswith("the first was: My name is Ada.")
    assert (tmp_path / "hermes_demo.db").exists() == (database == "sqlite")


def test_a_regeneration_that_is_killed_leaves_the_old_turn(tmp_path: Path) -> None:
    """Until a new answer is whole the old one stands, whatever becomes of the process."""
    port = free_port()
    command = [sys.executable, "-m", "demo_app", "--port", str(port), "--pace", "0.1"]
    told = {HEADER: "s", "X-Hermes-History-Source": "request"}
    body = {"messages": [{"role": "user", "content": "one"}], "stream": True}
    with serving(command, port, tmp_path, ready="/healthz") as process:
        url = f"http://127.0.0.1:{port}"
        answer = content(ask(url, "one", **{HEADER: "s"}))
        endpoint = f"{url}/v1/chat/completions"
        with httpx2.stream("POST", endpoint, json=body, headers=told) as response:
            words = (line for line in response.iter_lines() if '"content": "' in line)
            assert len([*itertools.islice(words, 4)]) == 4  # it is in the middle of the answer
            process.kill()
            process.wait()

    async def stored() -> list[Message]:
        store = SQLAlchemyStore(f"sqlite:///{tmp_path}/hermes_demo.db")
        history = await store.load("s")
        assert list(await store.archived("s")) == []
        await store.aclose()
        return without_response(history.messages)

    assert anyio.run(stored) == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": answer},
    ]


def run_demo(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "demo_app", *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_wrong_store_is_told_in_a_line() -> None:
    """A URL that is none ends the demo with an explanation, and no traceback."""
    done = run_demo("--store", "sessions.db")
    assert done.returncode == 2
    assert "not a database URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told() -> None:
    """The demo does not say that it serves where it cannot."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_demo("--port", str(taken.getsockname()[1]))
    assert done.returncode != 0
    assert "Address already in use" in done.stderr
    assert "serves at" not in done.stdout


def test_no_response_is_delayed() -> None:
    """What the demo accepts sends each piece at once, and not when the one before has arrived."""
    with listen(uvicorn.Config("none", port=0)) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_demo_says_where_and_what_to_try(tmp_path: Path) -> None:
    """A newcomer is told the address, the file, and a line to paste."""
    with demo(tmp_path) as url:
        pass
    log = (tmp_path / "server.log").read_text()
    assert f"The demo serves at {url}" in log
    assert "sqlite:///hermes_demo.db" in log
    assert f"curl -i {url}/v1/chat/completions" in log
    for tried in ("/v1/responses", "Idempotency-Key", "X-Hermes-History-Source", "HERMES_API_KEYS",
                  "UPSTREAM=http", "from the built-in model"):  # fmt: skip
        assert tried in log


def test_requests_at_once_take_turns(tmp_path: Path) -> None:
    """Of requests that come at once a repetition is stored once, and no turn is torn."""
    with demo(tmp_path) as url, ThreadPoolExecutor(8) as pool:
        repeated = [
            pool.submit(ask, url, "Hi", **{HEADER: "s", "Idempotency-Key": "k"}) for _ in range(8)
        ]
        assert len({content(each.result()) for each in repeated}) == 1
        others = [pool.submit(ask, url, f"Question {n}", **{HEADER: "s"}) for n in range(8)]
        remembered = sorted(content(each.result()).split(" | ")[1] for each in others)
    counts = [
        f"I remember {n} earlier message{'s' * (n > 1)}; the first was: Hi" for n in range(1, 9)
    ]
    assert remembered == counts


def test_a_wrong_limit_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is no number ends the demo with an explanation, from the environment too."""
    monkeypatch.setenv("HERMES_COMPACT_AT", "many")
    done = run_demo()
    assert done.returncode == 2
    assert "--compact-at" in done.stderr
