"""Conversations in this process, for tests."""

from .store import MemoryStore

__all__ = ["MemoryStore"]
