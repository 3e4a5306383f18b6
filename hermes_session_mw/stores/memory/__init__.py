"""Conversations in this process, for tests."""

from hermes_session_mw.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
