"""Every `MessageStore` that the package brings, held to the contract, each driver on one loop."""

import pytest

from hermes_session_mw.testing import MessageArguments, MessageOperations
from tests.contract.test_store_contract import Case, anyio_backend, case, checked_out, store

__all__ = ["anyio_backend", "case", "checked_out", "store"]  # fixtures

CASES = (
    Case("memory", "asyncio"),
    Case("sqlite", "trio"),
    Case("sqlite+aiosqlite", "asyncio"),
    Case("postgresql+psycopg", "trio"),
    Case("postgresql+psycopg2", "asyncio"),
    Case("postgresql+psycopg_async", "asyncio"),
    Case("postgresql+asyncpg", "asyncio"),
    Case("mysql+pymysql", "trio"),
    Case("mysql+asyncmy", "asyncio"),
)


@pytest.mark.parametrize("case", CASES, ids=str, indirect=True, scope="module")
class TestMessageArguments(MessageArguments):
    """What is judged in Python, over no database and over each."""


@pytest.mark.parametrize("case", CASES, ids=str, indirect=True, scope="module")
class TestMessageOperations(MessageOperations):
    """Single messages, ranges, documents, and sessions that are cleared."""
