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

if TYPE_CHECKING:
    from hermes_session_mw import migrations
    from hermes_session_mw.asgi.install import install
    from hermes_session_mw.asgi.middleware import HermesSessionMiddleware
    from hermes_session_mw.logging import SessionIdFilter
    from hermes_session_mw.routes.handlers import session_routes
    from hermes_session_mw.session.answer import Answer, AnswerEvent
    from hermes_session_mw.session.new_messages import NewMessages
    from hermes_session_mw.session.recording import Recording
    from hermes_session_mw.session.request_digest import request_digest
    from hermes_session_mw.session.session import HermesSession, get_session
    from hermes_session_mw.session.turn_lock import Turn
    from hermes_session_mw.stores import (
        ANY,
        AnswerRecord,
        AnswerState,
        AnswerStore,
        AnswerWatch,
        ArchivedMessage,
        HermesStateStore,
        History,
        HistoryRange,
        LifecycleStore,
        MemoryStore,
        MessageStore,
        SessionInfo,
        SessionPage,
        SQLAlchemyStore,
        Store,
        StoredMessage,
        StoredTurn,
        check_keys,
    )

__all__ = [
    "ANY",
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
    "HistoryRange",
    "InvalidCursor",
    "InvalidKey",
    "InvalidMessage",
    "LifecycleStore",
    "MemoryStore",
    "MessageStore",
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
    "StoredMessage",
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

_MODULES = {
    "ANY": "stores",
    "Answer": "session.answer",
    "AnswerEvent": "session.answer",
    "AnswerRecord": "stores",
    "AnswerState": "stores",
    "AnswerStore": "stores",
    "AnswerWatch": "stores",
    "ArchivedMessage": "stores",
    "HermesSession": "session.session",
    "HermesSessionMiddleware": "asgi.middleware",
    "HermesStateStore": "stores",
    "History": "stores",
    "HistoryRange": "stores",
    "LifecycleStore": "stores",
    "MemoryStore": "stores",
    "MessageStore": "stores",
    "NewMessages": "session.new_messages",
    "Recording": "session.recording",
    "SQLAlchemyStore": "stores",
    "SessionIdFilter": "logging",
    "SessionInfo": "stores",
    "SessionPage": "stores",
    "Store": "stores",
    "StoredMessage": "stores",
    "StoredTurn": "stores",
    "Turn": "session.turn_lock",
    "check_keys": "stores",
    "get_session": "session.session",
    "install": "asgi.install",
    "request_digest": "session.request_digest",
    "session_routes": "routes.handlers",
}
"""The module that has each name which is imported when it is first asked for."""

_SUBMODULES = frozenset(
    {"database", "logging", "messages", "migrations", "routes", "session", "stores", "telemetry"}
)
"""Those that are there without an import of their own, as attributes."""


if not TYPE_CHECKING:  # to type checkers, a module that has it has every name

    def __getattr__(name: str) -> Any:
        # PEP 562: the command's help needs no framework and no database, and a store of one's own
        # no SQLAlchemy.
        if name in _MODULES:
            value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        elif name in _SUBMODULES:
            value = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
