"""ASGI middleware that stores conversations.

It reads ``X-Hermes-Session-Id``, puts the session's stored conversation on the request's state,
and stamps the id on every response.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hermes_session_mw.asgi.headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    ON_DISCONNECT_HEADER,
    REPLAYED_HEADER,
    SESSION_HEADER,
    SESSION_KEY_HEADER,
    TURN_HEADER,
)
from hermes_session_mw.asgi.install import install
from hermes_session_mw.asgi.middleware import HermesSessionMiddleware
from hermes_session_mw.exceptions import (
    AppendInDoubt,
    ConfigurationError,
    CursorConflict,
    HermesSessionError,
    HistoryNotLoaded,
    InvalidCursor,
    InvalidKey,
    InvalidMessage,
    MessageTooLarge,
    NotSupported,
    OwnerRequired,
    ResponseStarted,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionFull,
    SessionMissing,
    SessionNotFound,
    SessionTaken,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreTimeout,
    StoreUnavailable,
    TurnConflict,
    TurnLost,
    TurnTooLong,
)
from hermes_session_mw.ids import is_session_id, mint_session_id
from hermes_session_mw.logging import SessionIdFilter
from hermes_session_mw.routes.handlers import session_routes
from hermes_session_mw.session.answer import Answer, AnswerEvent
from hermes_session_mw.session.new_messages import NewMessages
from hermes_session_mw.session.recording import Recording
from hermes_session_mw.session.request_digest import request_digest
from hermes_session_mw.session.session import HermesSession, get_session
from hermes_session_mw.session.turn_lock import Turn
from hermes_session_mw.stores import (
    AnswerRecord,
    AnswerState,
    AnswerStore,
    AnswerWatch,
    ArchivedMessage,
    History,
    LifecycleStore,
    MemoryStore,
    SessionInfo,
    SessionPage,
    Store,
    StoredTurn,
    check_keys,
)

if TYPE_CHECKING:
    from hermes_session_mw import migrations
    from hermes_session_mw.stores import HermesStateStore, SQLAlchemyStore

__all__ = [
    "HISTORY_SOURCE_HEADER",
    "IDEMPOTENCY_HEADER",
    "ON_DISCONNECT_HEADER",
    "REPLAYED_HEADER",
    "SESSION_HEADER",
    "SESSION_KEY_HEADER",
    "TURN_HEADER",
    "Answer",
    "AnswerEvent",
    "AnswerRecord",
    "AnswerState",
    "AnswerStore",
    "AnswerWatch",
    "AppendInDoubt",
    "ArchivedMessage",
    "ConfigurationError",
    "CursorConflict",
    "HermesSession",
    "HermesSessionError",
    "HermesSessionMiddleware",
    "HermesStateStore",
    "History",
    "HistoryNotLoaded",
    "InvalidCursor",
    "InvalidKey",
    "InvalidMessage",
    "LifecycleStore",
    "MemoryStore",
    "MessageTooLarge",
    "NewMessages",
    "NotSupported",
    "OwnerRequired",
    "Recording",
    "ResponseStarted",
    "SQLAlchemyStore",
    "SessionBusy",
    "SessionConflict",
    "SessionDeleted",
    "SessionFull",
    "SessionIdFilter",
    "SessionInfo",
    "SessionMissing",
    "SessionNotFound",
    "SessionPage",
    "SessionTaken",
    "Store",
    "StoreCorrupt",
    "StoreError",
    "StoreMisconfigured",
    "StoreTimeout",
    "StoreUnavailable",
    "StoredTurn",
    "Turn",
    "TurnConflict",
    "TurnLost",
    "TurnTooLong",
    "check_keys",
    "get_session",
    "install",
    "is_session_id",
    "migrations",
    "mint_session_id",
    "request_digest",
    "session_routes",
]

if not TYPE_CHECKING:  # to type checkers, a module that has it has every name

    def __getattr__(name: str) -> Any:
        # What needs SQLAlchemy, which takes longer to import than all the rest (PEP 562).
        if name == "migrations":
            return import_module(f"{__name__}.migrations")
        if name in __all__:
            return getattr(import_module(f"{__name__}.stores"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
