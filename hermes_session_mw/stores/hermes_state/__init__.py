"""Conversations in Hermes Agent's own database, ``state.db``."""

from .store import HermesStateStore

__all__ = ["HermesStateStore"]
