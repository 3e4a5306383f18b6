"""A store over Hermes Agent's own database, ``state.db``."""

from hermes_session_mw.stores.hermes_state.store import HermesStateStore

__all__ = ["HermesStateStore"]
