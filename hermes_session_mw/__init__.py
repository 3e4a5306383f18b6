"""ASGI middleware that lets a conversation go on.

It reads ``X-Hermes-Session-Id``, puts the session's stored conversation on the request's state,
and stamps the id on every response.
"""

from .exceptions import (
    AppendInDoubt,
    ConfigurationError,
    HermesSessionError,
    HistoryNotLoaded,
    InvalidKey,
    InvalidMessage,
    MessageTooLarge,
    OwnerRequired,
    SessionConflict,
    SessionDeleted,
    SessionFull,
    SessionMissing,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreTimeout,
    StoreUnavailable,
    TurnConflict,
    TurnTooLong,
)
from .headers import SESSION_HEADER
from .ids import is_session_id, mint_session_id
from .installation import install
from .logging import SessionIdFilter
from .middleware import HermesSessionMiddleware
from .recording import Recording
from .session import HermesSession, get_session
from .stores import History, MemoryStore, SQLAlchemyStore, Store

__all__ = [
    "SESSION_HEADER",
    "AppendInDoubt",
    "ConfigurationError",
    "HermesSession",
    "HermesSessionError",
    "HermesSessionMiddleware",
    "History",
    "HistoryNotLoaded",
    "InvalidKey",
    "InvalidMessage",
    "MemoryStore",
    "MessageTooLarge",
    "OwnerRequired",
    "Recording",
    "SQLAlchemyStore",
    "SessionConflict",
    "SessionDeleted",
    "SessionFull",
    "SessionIdFilter",
    "SessionMissing",
    "Store",
    "StoreCorrupt",
    "StoreError",
    "StoreMisconfigured",
    "StoreTimeout",
    "StoreUnavailable",
    "TurnConflict",
    "TurnTooLong",
    "get_session",
    "install",
    "is_session_id",
    "mint_session_id",
]
