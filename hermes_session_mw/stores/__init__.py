"""The stores that keep conversations, and the protocols that they implement.

The stores themselves are imported when they are first asked for (PEP 562): whoever has a store of
their own need not wait for SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hermes_session_mw.stores.answers import AnswerRecord, AnswerState, AnswerStore, AnswerWatch
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.expiry import NEVER, ExpiryStore, SessionExpiry, Sweep
from hermes_session_mw.stores.factory import StoreLike, as_store
from hermes_session_mw.stores.label_store import LabelStore
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.message_store import (
    ANY,
    HistoryRange,
    MessageStore,
    StoredMessage,
)
from hermes_session_mw.stores.models import ArchivedMessage, SessionInfo, SessionPage, StoredTurn
from hermes_session_mw.stores.owner_store import ErasureReceipt, OwnerStore
from hermes_session_mw.stores.validation import check_keys

if TYPE_CHECKING:
    from hermes_session_mw.stores.hermes_state import HermesStateStore
    from hermes_session_mw.stores.memory import MemoryStore
    from hermes_session_mw.stores.search import (
        SearchHit,
        SearchOptions,
        SearchPage,
        SearchStore,
    )
    from hermes_session_mw.stores.sqlalchemy import SQLAlchemyStore

__all__ = [
    "ANY",
    "NEVER",
    "AnswerRecord",
    "AnswerState",
    "AnswerStore",
    "AnswerWatch",
    "ArchivedMessage",
    "ErasureReceipt",
    "ExpiryStore",
    "HermesStateStore",
    "History",
    "HistoryRange",
    "LabelStore",
    "LifecycleStore",
    "MemoryStore",
    "MessageStore",
    "OwnerStore",
    "SQLAlchemyStore",
    "SearchHit",
    "SearchOptions",
    "SearchPage",
    "SearchStore",
    "SessionExpiry",
    "SessionInfo",
    "SessionPage",
    "Store",
    "StoreLike",
    "StoredMessage",
    "StoredTurn",
    "Sweep",
    "as_store",
    "check_keys",
]

_FOLDERS = {
    "HermesStateStore": "hermes_state",
    "MemoryStore": "memory",
    "SQLAlchemyStore": "sqlalchemy",
    **dict.fromkeys(("SearchHit", "SearchOptions", "SearchPage", "SearchStore"), "search"),
}


if not TYPE_CHECKING:  # to type checkers, a module that has it has every name

    def __getattr__(name: str) -> Any:
        if name not in _FOLDERS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_FOLDERS[name]}"), name)
