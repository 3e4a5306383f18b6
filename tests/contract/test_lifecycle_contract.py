"""Every `LifecycleStore` that the package brings, held to the contract, on each event loop."""

import pytest

from hermes_session_mw import LifecycleStore
from hermes_session_mw.testing import LifecycleArguments, LifecycleOperations
from hermes_session_mw.testing.edit_contract import EditOperations
from hermes_session_mw.testing.lease_contract import LeaseOperations
from hermes_session_mw.testing.metadata_contract import MetadataOperations
from hermes_session_mw.testing.session_list_contract import SessionListOperations
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


# What the database does, for every case. In three classes, which run beside each other.


class TestEditOperations(EditOperations):
    """Edits, and what is archived by them."""

    async def test_the_store_has_a_check(self, store: LifecycleStore) -> None:
        """The contract leaves it to a store; each of the package's own has it."""
        assert hasattr(store, "check")


class TestLeaseOperations(LeaseOperations):
    """Leases, and who is fenced off."""


class TestSessionListOperations(SessionListOperations):
    """Lists, titles, deletions, exports and keys."""


class TestMetadataOperations(MetadataOperations):
    """Metadata of sessions."""


def test_the_four_are_the_whole() -> None:
    """The classes above have all of the contract's operations."""
    whole = (EditOperations, LeaseOperations, SessionListOperations, MetadataOperations)
    assert LifecycleOperations.__bases__ == whole
