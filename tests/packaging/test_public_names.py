"""What other people's code imports."""

import hermes_session_mw
from hermes_session_mw import client, migrations, openai_api, testing

PUBLIC = {
    "ANY",
    "AnswerRecord",
    "AnswerState",
    "AnswerStore",
    "AnswerWatch",
    "Answer",
    "AnswerEvent",
    "AppendInDoubt",
    "ArchivedMessage",
    "ConfigurationError",
    "CursorConflict",
    "ErasureReceipt",
    "ErrorResponse",
    "ExpiryStore",
    "HISTORY_SOURCE_HEADER",
    "HermesSession",
    "HermesSessionError",
    "HermesSessionMiddleware",
    "HermesStateStore",
    "History",
    "HistoryNotLoaded",
    "HistoryRange",
    "IDEMPOTENCY_HEADER",
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
    "NEVER",
    "NewMessages",
    "NotSupported",
    "OwnerRequired",
    "OwnerStore",
    "ON_DISCONNECT_HEADER",
    "REPLAYED_HEADER",
    "Recording",
    "ResponseStarted",
    "SESSION_HEADER",
    "SESSION_KEY_HEADER",
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
    "SessionTaken",
    "SessionPage",
    "Store",
    "StoreCorrupt",
    "StoreError",
    "StoreMisconfigured",
    "StoreTimeout",
    "StoreUnavailable",
    "StoredMessage",
    "StoredTurn",
    "Sweep",
    "TURN_HEADER",
    "Turn",
    "TurnConflict",
    "TurnLost",
    "TurnTooLong",
    "__version__",
    "check_keys",
    "error_response",
    "generate_key",
    "first_words",
    "get_session",
    "install",
    "is_session_id",
    "migrations",
    "mint_session_id",
    "request_digest",
    "session_routes",
}

PUBLIC_WIRE = {
    "CORS_REQUEST_HEADERS",
    "CORS_RESPONSE_HEADERS",
    "Chunk",
    "EventReader",
    "EventStream",
    "EventTooLarge",
    "FollowedResponse",
    "InvalidChunk",
    "InvalidRequest",
    "MessageAssembly",
    "ResponseEvents",
    "ResponseRequest",
    "StoredResponses",
    "answer_items",
    "answers_calls",
    "as_delta",
    "check_supported",
    "conversation_routes",
    "conversation_session_id",
    "estimated_usage",
    "for_upstream",
    "in_plain_form",
    "input_items",
    "items_of",
    "known_events",
    "messages_of",
    "new_response_id",
    "options_of",
    "page_of",
    "placed_items",
    "read_chunk",
    "read_retry_after",
    "refused_parts",
    "response_object",
    "response_turn_id",
    "server_sent_event",
    "title_of",
    "split_delta",
    "told_again",
    "usage_of",
    "with_references",
}


def test_the_public_names_stay() -> None:
    """A name that was public once is public still, and each is really there."""
    assert sorted(PUBLIC) == sorted(hermes_session_mw.__all__)
    assert all(hasattr(hermes_session_mw, name) for name in PUBLIC)


def test_the_names_for_migrations_stay() -> None:
    """What a migration calls is public as well."""
    assert migrations.__all__ == ["add_tables", "is_complete", "upgrade"]
    assert all(callable(getattr(migrations, name)) for name in migrations.__all__)


def test_the_names_for_openais_wire_stay() -> None:
    """What a chat endpoint imports is public as well."""
    assert PUBLIC_WIRE <= {*openai_api.__all__}
    assert all(hasattr(openai_api, name) for name in openai_api.__all__)


def test_the_client_helpers_names_stay() -> None:
    """What programs that ask a server import is public as well."""
    assert sorted(client.__all__) == [
        "AnswerLost",
        "AnswerPiece",
        "AnswerReader",
        "AsyncAnswerReader",
        "KeptSession",
        "keep_session",
    ]
    assert all(hasattr(client, name) for name in client.__all__)


def test_the_contracts_names_stay() -> None:
    """What the tests of somebody's own store derive from is public as well."""
    assert sorted(testing.__all__) == [
        "AnswerArguments",
        "AnswerContract",
        "AnswerOperations",
        "LabelArguments",
        "LabelContract",
        "LabelOperations",
        "LifecycleArguments",
        "LifecycleContract",
        "LifecycleOperations",
        "MessageArguments",
        "MessageContract",
        "MessageOperations",
        "OwnerArguments",
        "OwnerContract",
        "OwnerOperations",
        "SearchArguments",
        "SearchContract",
        "SearchOperations",
        "StoreArguments",
        "StoreContract",
        "StoreOperations",
    ]
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_the_header_is_hermes_agents() -> None:
    """The header's name is the one that Hermes Agent's API server reads and writes."""
    assert hermes_session_mw.SESSION_HEADER == "X-Hermes-Session-Id"


def test_every_error_is_in_one_tree() -> None:
    """Whoever catches HermesSessionError has caught all."""
    errors = [
        value
        for name in PUBLIC
        if isinstance(value := getattr(hermes_session_mw, name), type)
        and issubclass(value, Exception)
    ]
    assert len(errors) == 28
    assert all(issubclass(error, hermes_session_mw.HermesSessionError) for error in errors)
