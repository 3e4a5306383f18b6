"""Fixtures of the demo's tests."""

import pytest

from hermes_session_mw import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    """Where the demo of this test keeps its conversations."""
    return MemoryStore()


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Whether the answers of this test are streamed."""
    return bool(request.param)
