"""The stores that each adapter is tested over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hermes_session_mw import MemoryStore, SQLAlchemyStore


@pytest.fixture
def anyio_backend() -> str:
    """Most of the frameworks know asyncio alone."""
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[MemoryStore | SQLAlchemyStore]:
    """A store in memory, and one over a SQLite file."""
    store = (
        MemoryStore()
        if request.param == "memory"
        else SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    )
    yield store
    await store.aclose()
