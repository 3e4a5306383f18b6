"""Every `LifecycleStore` that the package brings, held to the contract, on each event loop."""

import pytest

from hermes_session_mw import LifecycleStore
from hermes_session_mw.testing import LifecycleArguments, LifecycleOperations
from tests.contract.test_store_contract import (
    ARGUMENT_CASES,
    anyio_backend,
    case,
    checked_out,
    store,
)

__all__ = ["anyio_backend", "case", "checked_out", "store"]  # fixtures


@pytest.mark.parametrize("case", ARGUMENT_CASES, ids=str, indirect=True, scope="module")
class TestLifecycleArguments(LifecycleArguments):
    """What is judged in Python, over no database, over one, and over each driver once."""


class TestLifecycleOperations(LifecycleOperations):
    """What the database does, for every case."""

    async def test_the_store_has_a_check(self, store: LifecycleStore) -> None:
        """The contract leaves it to a store; each of the package's own has it."""
        assert hasattr(store, "check")
