"""ASGI middleware that lets a conversation go on.

It reads ``X-Hermes-Session-Id``, puts the session's stored conversation on the request's state,
and stamps the id on every response.
"""

from . import migrations
from .exceptions import (
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
from .headers import (
    HISTORY_SOURCE_HEADER,
    IDEMPOTENCY_HEADER,
    SESSION_HEADER,
    SESSION_KEY_HEADER,
)
from .ids import is_session_id, mint_session_id
from .installation import install
from .logging import SessionIdFilter
from .middleware import HermesSessionMiddleware
from .recording import Recording
from .routes import session_routes
from .session import HermesSession, get_session
from .stores import (
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
)
from .turn import Turn

__all__ = [
    "HISTORY_SOURCE_HEADER",
    "IDEMPOTENCY_HEADER",
    "SESSION_HEADER",
    "SESSION_KEY_HEADER",
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
    "get_session",
    "install",
    "is_session_id",
    "migrations",
    "mint_session_id",
    "session_routes",
]
