"""A copy of the database that Hermes wrote, and a store over it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hermes_session_mw import HermesStateStore
from tests.stores.hermes_state.agent import copy_to


@pytest.fixture
def state_db(tmp_path: Path) -> Path:
    """A copy of the database that Hermes wrote."""
    return copy_to(tmp_path)


@pytest.fixture
async def state(state_db: Path) -> AsyncIterator[HermesStateStore]:
    """A store over it."""
    store = HermesStateStore(state_db)
    yield store
    await store.aclose()
