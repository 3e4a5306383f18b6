"""Every `OwnerStore` that the package brings, held to the contract, once for each database."""

import pytest

from hermes_session_mw import HermesStateStore, OwnerStore
from hermes_session_mw.testing import OwnerArguments, OwnerOperations
from tests.contract.test_store_contract import Case, anyio_backend, case, checked_out, store

__all__ = ["anyio_backend", "case", "checked_out", "store"]  # fixtures

CASES = (
    Case("memory", "trio"),
    Case("sqlite", "trio"),
    Case("sqlite-in-memory", "asyncio"),
    Case("sqlite+aiosqlite", "asyncio"),
    Case("sqlite", "trio", borrowed=True),
    Case("postgresql+psycopg", "trio"),
    Case("postgresql+asyncpg", "asyncio"),
    Case("mysql+pymysql", "trio"),
)


@pytest.mark.parametrize("case", CASES[:2], ids=str, indirect=True, scope="module")
class TestOwnerArguments(OwnerArguments):
    """What is judged in Python, over no database and over one."""


@pytest.mark.parametrize("case", CASES, ids=str, indirect=True, scope="module")
class TestOwnerOperations(OwnerOperations):
    """What an owner has is handed out, and erased."""


def test_hermes_database_has_no_such_methods() -> None:
    """The store over Hermes Agent's database is no `OwnerStore`, as the docs say."""
    assert not issubclass(HermesStateStore, OwnerStore)
