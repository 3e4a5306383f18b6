"""ASGI middleware that stores conversations.

It reads ``X-Hermes-Session-Id``, puts the session's stored conversation on the request's state,
and stamps the id on every response.
"""

from hermes_session_mw import migrations
from hermes_session_mw.asgi.headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
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
    HermesSessionError,
    HistoryNotLoaded,
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
from hermes_session_mw.session.new_messages import NewMessages
from hermes_session_mw.session.recording import Recording
from hermes_session_mw.session.request_digest import request_digest
from hermes_session_mw.session.session import HermesSession, get_session
from hermes_session_mw.session.turn_lock import Turn
from hermes_session_mw.stores import (
    AnswerRecord,
    AnswerState,
    AnswerStore,
    ArchivedMessage,
    HermesStateStore,
    History,
    LifecycleStore,
    MemoryStore,
    SessionInfo,
    SessionPage,
    SQLAlchemyStore,
    Store,
    StoredTurn,
    check_keys,
)

__all__ = [
    "HISTORY_SOURCE_HEADER",
    "IDEMPOTENCY_HEADER",
    "REPLAYED_HEADER",
    "SESSION_HEADER",
    "SESSION_KEY_HEADER",
    "TURN_HEADER",
    "AnswerRecord",
    "AnswerState",
    "AnswerStore",
    "AppendInDoubt",
    "ArchivedMessage",
    "ConfigurationError",
    "HermesSession",
    "HermesSessionError",
    "HermesSessionMiddleware",
    "HermesStateStore",
    "History",
    "HistoryNotLoaded",
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
