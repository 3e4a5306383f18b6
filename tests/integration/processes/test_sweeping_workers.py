"""Workers of a real server sweep, one at a time, and one takes over from another that is killed."""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Engine, create_engine, text

from hermes_session_mw import NEVER, SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.testing.helpers import numbered
from tests.support.own_databases import own_database
from tests.support.server import free_port, serving

OLD = {
    "sqlite": "'2001-01-01 00:00:00'",
    "postgresql": "TIMESTAMPTZ '2001-01-01 00:00:00Z'",
    "mysql": "'2001-01-01 00:00:00'",
}


def serve(folder: Path, url: str, *options: str, **environment: str) -> Any:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "--port", str(port), *options]
    command += ["tests.support.sweep_worker:create_app", "--log-level", "warning"]
    return serving(command, port, folder, ready="/ready", WORKER_DATABASE=url, **environment)


def until(condition: Callable[[], bool], log: Path) -> None:
    """Wait for it, for a minute at most."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        found: int = connection.execute(text("SELECT count(*) FROM hermes_sessions")).scalar_one()
        return found


async def fill(url: str, sizes: list[int]) -> None:
    store = SQLAlchemyStore(url, expires_after=NEVER)
    for number, size in enumerate(sizes):
        await store.append(f"{number}", numbered(0, size))
    assert store.expiry is not None
    await store.append("kept", numbered(0))
    await store.expiry.set("kept", NEVER)
    await store.aclose()


async def problems(url: str) -> Any:
    admin = AdminStore(url)
    try:
        return await admin.check_integrity(lambda _count: None)
    finally:
        await admin.aclose()


@pytest.mark.parametrize("driver", ["sqlite", "postgresql+psycopg", "mysql+pymysql"])
def test_a_killed_sweeper_is_replaced(
    driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What it has removed is gone as a whole, and two workers remove the rest after its lease."""
    with ExitStack() as stack:
        url = stack.enter_context(own_database(request, driver, tmp_path))
        address = url.render_as_string(hide_password=False)
        engine = create_engine(url)
        stack.callback(engine.dispose)
        # Each of the first is a transaction of its own.
        anyio.run(fill, address, [600, 600, *[2] * 40])
        with engine.begin() as connection:
            old = OLD[engine.dialect.name]
            connection.execute(text(f"UPDATE hermes_sessions SET updated_at = {old}"))
        with serve(tmp_path, address, WORKER_DIES="1") as dying:
            assert dying.wait(timeout=60) == -signal.SIGKILL
        left = count(engine)
        assert 1 < left < 43
        with engine.begin() as connection:
            where = "FROM hermes_counters WHERE name = 'sweep until'"
            now = time.time() * 1000
            until_then = connection.execute(text(f"SELECT value {where}")).scalar_one()
            assert now < until_then < now + 120_000
        with serve(tmp_path, address, "--workers", "2"):
            assert count(engine) == left  # the lease of the dead one is another's
            with engine.begin() as connection:
                end = "UPDATE hermes_counters SET value = 0 WHERE name = 'sweep until'"
                connection.execute(text(end))
            until(lambda: count(engine) == 1, tmp_path / "server.log")
        assert anyio.run(problems, address) == []
        assert "could not be removed" not in (tmp_path / "server.log").read_text()
