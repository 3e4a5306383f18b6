"""The store in the process's own memory."""

from hermes_session_mw.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
