"""Every `LabelStore` that the package brings: each database, and a few of it over asyncio."""

import pytest

from hermes_session_mw.testing import LabelArguments, LabelOperations
from tests.contract.test_store_contract import Case, anyio_backend, case, checked_out, store

__all__ = ["anyio_backend", "case", "checked_out", "store"]  # fixtures

CASES = (
    Case("memory", "asyncio"),
    Case("sqlite", "trio"),
    Case("postgresql+psycopg", "trio"),
    Case("mysql+pymysql", "trio"),
)


@pytest.mark.parametrize("case", CASES[:2], ids=str, indirect=True, scope="module")
class TestLabelArguments(LabelArguments):
    """What is judged in Python, over no database and over one."""


@pytest.mark.parametrize("case", CASES, ids=str, indirect=True, scope="module")
class TestLabelOperations(LabelOperations):
    """What the database does."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    "case", [Case("postgresql+asyncpg", "asyncio")], ids=str, indirect=True, scope="module"
)
class TestLabelsOverAsyncio:
    """What a driver that binds by types could get wrong."""

    test_a_session_is_labelled = LabelOperations.test_a_session_is_labelled
    test_sessions_are_listed = LabelOperations.test_sessions_are_listed_by_their_labels
    test_labels_go_where_their_session_goes = (
        LabelOperations.test_labels_go_where_their_session_goes
    )
