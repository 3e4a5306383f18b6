"""The shipped contracts, over a store that encrypts; on other databases in ``make test-long``."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hermes_session_mw import Keyring, SQLAlchemyStore
from hermes_session_mw.testing import (
    AnswerOperations,
    LifecycleOperations,
    MessageOperations,
    StoreOperations,
)
from hermes_session_mw.testing.metadata_contract import MetadataOperations
from tests.contract import test_checkpoint_contract as checkpoint_contract
from tests.contract.test_store_contract import url_of

CASES = [
    ("sqlite", "trio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "asyncio"),
]
# The first is in every run (`long_runs.CASES`).
IDS = ["sqlite-trio", *(f"over {driver}" for driver, _ in CASES[1:])]
pytestmark = pytest.mark.parametrize(("driver", "anyio_backend"), CASES, ids=IDS, scope="module")


@pytest.fixture
async def store(
    driver: str,
    anyio_backend: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> AsyncIterator[SQLAlchemyStore]:
    """A store that encrypts, over one database for all tests."""
    url = url_of(driver, tmp_path_factory.getbasetemp(), request)
    if driver == "sqlite":
        url = url.set(database=f"{tmp_path_factory.getbasetemp()}/encrypted.db")
    keyring = Keyring({"k1": bytes(32)}, current="k1")
    store = SQLAlchemyStore(url, timeout=60, encryption=keyring)
    yield store
    await store.aclose()


class TestStore(StoreOperations):
    """Histories and turns."""


class TestLifecycle(LifecycleOperations):
    """Edits, leases, lists, forks, exports."""


class TestMessages(MessageOperations):
    """Single messages, their ids, and ranges."""


class TestAnswers(AnswerOperations):
    """Answers, their events, and folds."""


class TestMetadata(MetadataOperations):
    """Sessions' metadata."""


class TestCheckpoints:
    """What is held of checkpoints over every driver."""

    @pytest.mark.parametrize(
        "held",
        [
            getattr(checkpoint_contract, name)
            for name in dir(checkpoint_contract)
            if name.startswith("test_")
        ],
        ids=lambda held: held.__name__,
    )
    async def test_checkpoints(self, store: SQLAlchemyStore, held: Any) -> None:
        """Checkpoints and their writes come back, are copied, moved and removed."""
        names = held.__code__.co_varnames[: held.__code__.co_argcount]
        if names != ("store",):
            pytest.skip("it is about the case")
        await held(store)
