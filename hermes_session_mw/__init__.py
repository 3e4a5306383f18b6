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
    InvalidLabel,
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
    __version__: str
    """The installed version, as ``1.2.3``."""

    from hermes_session_mw import migrations
    from hermes_session_mw.asgi.error_responses import ErrorResponse, error_response
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
        NEVER,
        AnswerRecord,
        AnswerState,
        AnswerStore,
        AnswerWatch,
        ArchivedMessage,
        ErasureReceipt,
        ExpiryStore,
        HermesStateStore,
        History,
        HistoryRange,
        LabelStore,
        LifecycleStore,
        MemoryStore,
        MessageStore,
        OwnerStore,
        SearchHit,
        SearchOptions,
        SearchPage,
        SearchStore,
        SessionExpiry,
        SessionInfo,
        SessionPage,
        SQLAlchemyStore,
        Store,
        StoredMessage,
        StoredTurn,
        Sweep,
        check_keys,
    )
    from hermes_session_mw.stores.encryption import Keyring, generate_key
    from hermes_session_mw.stores.first_words import first_words

__all__ = [
    "ANY",
    "HISTORY_SOURCE_HEADER",
    "IDEMPOTENCY_HEADER",
    "NEVER",
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
    "ErasureReceipt",
    "ErrorResponse",
    "ExpiryStore",
    "HermesSession",
    "HermesSessionError",
    "HermesSessionMiddleware",
    "HermesStateStore",
    "History",
    "HistoryNotLoaded",
    "HistoryRange",
    "InvalidCursor",
    "InvalidKey",
    "InvalidLabel",
    "InvalidMessage",
    "Keyring",
    "LabelStore",
    "LifecycleStore",
    "MemoryStore",
    "MessageStore",
    "MessageTooLarge",
    "NewMessages",
    "NotSupported",
    "OwnerRequired",
    "OwnerStore",
    "Recording",
    "ResponseStarted",
    "SQLAlchemyStore",
    "SearchHit",
    "SearchOptions",
    "SearchPage",
    "SearchStore",
    "SessionBusy",
    "SessionConflict",
    "SessionDeleted",
    "SessionExpiry",
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
    "Sweep",
    "Turn",
    "TurnConflict",
    "TurnLost",
    "TurnTooLong",
    "__version__",
    "check_keys",
    "error_response",
    "first_words",
    "generate_key",
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
    "ErasureReceipt": "stores",
    "ErrorResponse": "asgi.error_responses",
    "ExpiryStore": "stores",
    "HermesSession": "session.session",
    "HermesSessionMiddleware": "asgi.middleware",
    "HermesStateStore": "stores",
    "History": "stores",
    "HistoryRange": "stores",
    "Keyring": "stores.encryption",
    "LabelStore": "stores",
    "LifecycleStore": "stores",
    "MemoryStore": "stores",
    "MessageStore": "stores",
    "NEVER": "stores",
    "OwnerStore": "stores",
    "NewMessages": "session.new_messages",
    "Recording": "session.recording",
    "SQLAlchemyStore": "stores",
    "SearchHit": "stores",
    "SearchOptions": "stores",
    "SearchPage": "stores",
    "SearchStore": "stores",
    "SessionIdFilter": "logging",
    "SessionExpiry": "stores",
    "SessionInfo": "stores",
    "SessionPage": "stores",
    "Store": "stores",
    "StoredMessage": "stores",
    "StoredTurn": "stores",
    "Sweep": "stores",
    "Turn": "session.turn_lock",
    "check_keys": "stores",
    "error_response": "asgi.error_responses",
    "first_words": "stores.first_words",
    "generate_key": "stores.encryption",
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
        elif name == "__version__":
            value = import_module("importlib.metadata").version(__name__)
        elif name in _SUBMODULES:
            value = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
