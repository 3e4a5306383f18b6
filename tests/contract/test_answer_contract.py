"""Every `AnswerStore` that the package brings, held to the contract, on each event loop."""

import pytest

from hermes_session_mw.testing import AnswerArguments, AnswerOperations
from tests.contract.test_store_contract import (
    ARGUMENT_CASES,
    anyio_backend,
    case,
    checked_out,
    store,
)

__all__ = ["anyio_backend", "case", "checked_out", "store"]  # fixtures


@pytest.mark.parametrize("case", ARGUMENT_CASES, ids=str, indirect=True, scope="module")
class TestAnswerArguments(AnswerArguments):
    """What is judged in Python, over no database, over one, and over each driver once."""


class TestAnswerOperations(AnswerOperations):
    """What the database does, for every case."""
