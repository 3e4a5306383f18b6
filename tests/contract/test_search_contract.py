"""Every `SearchStore` that the package brings, held to the contract, once for each database."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import URL

from hermes_session_mw import HermesStateStore, MemoryStore, SearchStore, SQLAlchemyStore
from hermes_session_mw.testing import SearchArguments, SearchOperations
from tests.contract.test_store_contract import TIMEOUT, Case, anyio_backend, case
from tests.support.own_databases import own_database

__all__ = ["anyio_backend", "case"]  # fixtures

CASES = (
    Case("memory", "asyncio"),
    Case("sqlite", "trio"),
    Case("postgresql+psycopg", "trio"),
    Case("mysql+pymysql", "asyncio"),
)


@pytest.fixture(scope="module")
def url(
    case: Case, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[URL | None]:
    """A database of these tests' own, as the index is in all of its histories."""
    if case.database == "memory":
        yield None
        return
    with own_database(request, case.database, tmp_path_factory.mktemp("search")) as made:
        yield made


@pytest.fixture
async def store(url: URL | None) -> AsyncIterator[Any]:
    """A store that searches."""
    if url is None:
        yield MemoryStore(search=True)
        return
    store = SQLAlchemyStore(url, timeout=TIMEOUT, search=True)
    yield store
    await store.aclose()


@pytest.mark.parametrize("case", CASES[:2], ids=str, indirect=True, scope="module")
class TestSearchArguments(SearchArguments):
    """What is judged in Python, over no database and over one."""


@pytest.mark.parametrize("case", CASES, ids=str, indirect=True, scope="module")
class TestSearchOperations(SearchOperations):
    """Messages are found, whatever has their words."""


def test_hermes_database_has_no_such_method() -> None:
    """The store over Hermes Agent's database is no `SearchStore`, as the docs say."""
    assert not issubclass(HermesStateStore, SearchStore)
