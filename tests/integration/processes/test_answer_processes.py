"""Answers of processes that are killed, and that are followed and stopped from others."""

import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from hermes_session_mw import HermesSession, SQLAlchemyStore
from hermes_session_mw.testing.helpers import new_id
from tests.support.answer_worker import QUESTION
from tests.support.server import free_port, serving


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    name = "postgres_url" if request.param == "postgresql" else "mysql_url"
    found: Any = request.getfixturevalue(name)
    return str(found.render_as_string(hide_password=False))


Serve = Callable[[], Any]


@pytest.fixture
def serve(url: str, tmp_path: Path) -> Any:
    """Starts servers of the database; returns each one's process and URL."""
    with ExitStack() as stack:

        def start() -> tuple[Any, str]:
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "--factory"]
            command += ["tests.support.answer_worker:create_app", "--port", str(port)]
            quiet = ["--log-level", "warning"]
            server = serving(
                [*command, *quiet], port, tmp_path, ready="/ready", WORKER_DATABASE=url
            )
            return stack.enter_context(server), f"http://127.0.0.1:{port}"

        yield start


@asynccontextmanager
async def session_of(url: str, session_id: str) -> AsyncIterator[HermesSession]:
    """The session, in this process."""
    store = SQLAlchemyStore(url)
    yield HermesSession(store, session_id)
    await store.aclose()


@pytest.mark.parametrize("pieces", [0, 20])
def test_a_killed_worker_leaves_what_it_wrote(url: str, serve: Serve, pieces: int) -> None:
    """The next to load the session finds the question and what was written, and may go on."""
    session_id = new_id()
    process, server = serve()
    whole = "".join(f"{number} " for number in range(pieces))

    async def check() -> None:
        async with session_of(url, session_id) as session:
            answer = await session.running_answer()
            assert answer is not None
            if pieces:
                with anyio.fail_after(30):
                    async for event in answer.events():  # as the other process has written it
                        if event.number == pieces:
                            break
            assert await session.load() == []
            process.kill()
            process.wait()
            with anyio.fail_after(30):
                assert await answer.wait() == "incomplete"
            assert answer.text == whole
            async with session.turn(wait=0):
                part = {"role": "assistant", "content": whole, "status": "incomplete"}
                assert session.history == [QUESTION, part][: 2 if pieces else 1]

    headers = {"X-Hermes-Session-Id": session_id}
    with httpx2.stream(
        "POST", f"{server}/answer/{pieces}", headers=headers, timeout=60
    ) as response:
        assert response.status_code == 200
        anyio.run(check)


def test_another_worker_follows_and_stops(url: str, serve: Serve) -> None:
    """A client whose worker lives comes back to another one, gets the rest, and stops it there."""
    session_id = new_id()
    headers = {"X-Hermes-Session-Id": session_id}
    (_, first), (_, second) = serve(), serve()
    with httpx2.stream("POST", f"{first}/answer/5", headers=headers, timeout=60) as response:
        seen = cursors(response, 3)
    path = f"{second}/sessions/{session_id}/answer"
    back = {"Last-Event-ID": seen[2]}
    with httpx2.stream("GET", path, headers=back, timeout=60) as response:
        lines = response.iter_lines()
        assert [json.loads(data_of(lines)) for _ in range(2)] == ["3 ", "4 "]
        assert httpx2.post(f"{path}/stop", timeout=60).status_code == 202
        assert json.loads(data_of(lines)) == {"state": "stopped"}

    async def check() -> None:
        async with session_of(url, session_id) as session:
            assert [each["content"] for each in await session.load()] == ["Count.", "0 1 2 3 4 "]

    anyio.run(check)
    assert httpx2.get(path, timeout=60).status_code == 204


def test_a_frozen_worker_is_told_that_another_went_on(url: str, serve: Serve) -> None:
    """A worker that wakes after its lease has run out ends its answer as the store has it.

    Another one has stored it meanwhile, and gone on. Nothing is stored twice.
    """
    session_id = new_id()
    headers = {"X-Hermes-Session-Id": session_id}
    (frozen, first), (_, second) = serve(), serve()

    async def until_written() -> None:
        async with session_of(url, session_id) as session:
            answer = await session.running_answer()
            assert answer is not None
            with anyio.fail_after(30):
                async for event in answer.events():
                    if event.number == 5:
                        break

    async def history() -> list[Any]:
        async with session_of(url, session_id) as session:
            return await session.load()

    with httpx2.stream("POST", f"{first}/answer/5", headers=headers, timeout=60) as response:
        lines = response.iter_lines()
        assert [json.loads(data_of(lines)) for _ in range(5)] == [f"{n} " for n in range(5)]
        anyio.run(until_written)
        frozen.send_signal(signal.SIGSTOP)
        try:
            begin_elsewhere(second, headers)
        finally:
            frozen.send_signal(signal.SIGCONT)
        assert json.loads(data_of(lines)) == {"state": "incomplete"}
        assert list(lines)[:1] in ([], [""])  # nothing follows
    part = {"role": "assistant", "content": "0 1 2 3 4 ", "status": "incomplete"}
    other = {"role": "assistant", "content": "0 1 ", "status": "incomplete"}
    assert anyio.run(history) == [QUESTION, part]  # the other answer runs still
    stopped = httpx2.post(f"{second}/sessions/{session_id}/answer/stop", timeout=60)
    assert stopped.status_code == 202

    async def ended() -> list[Any]:
        with anyio.fail_after(30):
            while len(found := await history()) < 4:  # noqa: ASYNC110  # no database wakes a test
                await anyio.sleep(0.05)
        return found

    assert anyio.run(ended) == [QUESTION, part, QUESTION, other]


def begin_elsewhere(server: str, headers: dict[str, str]) -> None:
    """Begin an answer as soon as the session is free, see its pieces, and leave it."""
    for _ in range(600):
        with httpx2.stream("POST", f"{server}/answer/2", headers=headers, timeout=60) as response:
            if response.status_code == 200:
                lines = response.iter_lines()
                assert [json.loads(data_of(lines)) for _ in range(2)] == ["0 ", "1 "]
                return
            assert response.status_code == 409
        time.sleep(0.1)
    pytest.fail("the session was never free")


def cursors(response: httpx2.Response, count: int) -> list[str]:
    found: list[str] = []
    for line in response.iter_lines():
        if line.startswith("id: "):
            found.append(line.removeprefix("id: "))
        if len(found) == count:
            break
    return found


def data_of(lines: Any) -> str:
    return str(next(line for line in lines if line.startswith("data: "))).removeprefix("data: ")
