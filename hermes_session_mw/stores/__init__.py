"""The stores that keep conversations, and the protocols that they implement."""

from hermes_session_mw.stores.answers import AnswerRecord, AnswerState, AnswerStore, AnswerWatch
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.factory import StoreLike, as_store
from hermes_session_mw.stores.hermes_state import HermesStateStore
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.memory import MemoryStore
from hermes_session_mw.stores.models import ArchivedMessage, SessionInfo, SessionPage, StoredTurn
from hermes_session_mw.stores.sqlalchemy import SQLAlchemyStore
from hermes_session_mw.stores.validation import check_keys

__all__ = [
    "AnswerRecord",
    "AnswerState",
    "AnswerStore",
    "AnswerWatch",
    "ArchivedMessage",
    "HermesStateStore",
    "History",
    "LifecycleStore",
    "MemoryStore",
    "SQLAlchemyStore",
    "SessionInfo",
    "SessionPage",
    "Store",
    "StoreLike",
    "StoredTurn",
    "as_store",
    "check_keys",
]
