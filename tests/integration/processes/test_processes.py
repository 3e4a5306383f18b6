"""Several processes, or event loops, that serve one application: they share what they may."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from sqlalchemy import URL
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore
from tests.support import worker_app
from tests.support.asgi import Recorder
from tests.support.server import free_port, serving

ID = {"X-Hermes-Session-Id": "shared"}


@pytest.mark.parametrize("database", ["sqlite", "postgresql+psycopg", "postgresql+asyncpg"])
def test_four_workers_write_one_conversation(
    database: str, tmp_path: Path, postgres_server: URL, request: pytest.FixtureRequest
) -> None:
    """Under uvicorn with four workers every turn is stored once, whole, whoever served it."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    if database.startswith("postgresql"):
        server: URL = request.getfixturevalue("postgres_url")
        url = server.set(drivername=database).render_as_string(hide_password=False)
    headers = {"X-Hermes-Session-Id": f"shared-{database.replace('+', '-')}"}
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "tests.support.worker_app:create_app"]
    options = ["--port", str(port), "--workers", "4", "--log-level", "warning"]
    with serving([*command, *options], port, tmp_path, ready="/ready", WORKER_DATABASE=url):

        def one(number: int) -> tuple[int, int]:
            # A connection of its own each: another worker may take it.
            answer = httpx2.get(f"http://127.0.0.1:{port}/append/{number}", headers=headers)
            answer.raise_for_status()
            told: dict[str, Any] = answer.json()
            return told["pid"], told["length"]

        with ThreadPoolExecutor(8) as pool:
            ready: set[int] = set()
            while len(ready) < 4:  # else one may serve all before the others have begun
                told = pool.map(httpx2.get, [f"http://127.0.0.1:{port}/ready"] * 8)
                ready |= {answer.json()["pid"] for answer in told}
            answers = list(pool.map(one, range(200)))
    assert len({pid for pid, _ in answers}) > 1
    assert sorted(length for _, length in answers) == list(range(2, 401, 2))
    messages = anyio.run(_load, url, headers["X-Hermes-Session-Id"])
    assert sorted(message["n"] for message in messages[::2]) == list(range(200))
    assert messages[::2] == messages[1::2]
    for number, (_, length) in enumerate(answers):
        assert messages[length - 1] == {"n": number}


async def _load(url: str, session_id: str) -> list[dict[str, Any]]:
    store = SQLAlchemyStore(url)
    history = await store.load(session_id)
    await store.aclose()
    return history.messages


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_test_client_may_be_used_twice(sqlite_url: str, backend: Any) -> None:
    """Each TestClient runs an event loop of its own, with or without a lifespan, one app in all."""
    app = Recorder(lambda session: session.append({"role": "user"}))
    wrapped = HermesSessionMiddleware(app, sqlite_url)
    for length in (1, 2):
        assert TestClient(wrapped, backend=backend).get("/", headers=ID).status_code == 200
        assert app.session.length == length
    anyio.run(wrapped.store.aclose)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_test_clients_over_postgresql_share_nothing_they_must_not(
    driver: str, postgres_url: URL
) -> None:
    """A driver whose connections belong to a loop makes new ones in the next."""
    url = postgres_url.set(drivername=f"postgresql+{driver}")
    routes = [Route("/append/{number:int}", worker_app.append)]
    wrapped = HermesSessionMiddleware(Starlette(routes=routes), url)
    for length in (2, 4):
        with TestClient(wrapped) as client:  # with a lifespan, whose end closes the store
            answer = client.get("/append/1", headers={"X-Hermes-Session-Id": f"twice-{driver}"})
            assert answer.json()["length"] == length
