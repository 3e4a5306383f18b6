"""Every `LifecycleStore` that the package brings, held to the contract, on each event loop."""

from tests.contract.lifecycle_contract import LifecycleContract, ThreadsContract
from tests.contract.test_store_contract import anyio_backend, case, checked_out, store

__all__ = ["anyio_backend", "case", "checked_out", "store"]  # fixtures


class TestLifecycleContract(LifecycleContract):
    """The contract, for every case."""


class TestThreadsContract(ThreadsContract):
    """The contract of threads, for every case."""
