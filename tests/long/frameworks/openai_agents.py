"""openai-agents' own tests of its SQLite session, also with `StoredSession` in its place."""

from pathlib import Path

from tests.long.frameworks.suites import Outcome, run_suite, unpacked

PATHS = [
    "tests/memory/test_session.py",
    "tests/memory/test_session_limit.py",
    "tests/memory/test_session_context_wrapper.py",
    "tests/memory/test_session_persistence_sanitize.py",
    "tests/test_hitl_session_scenario.py",
    "tests/memory/test_openai_responses_compaction_session.py",
    "tests/extensions/memory/test_encrypt_session.py",
    "tests/deferred_session_writes",
]
REASONS = {
    "reaches for the connections and locks of the SDK's own class": [
        "test_sqlite_session_close_closes_worker_thread_connections",
        "test_sqlite_session_reaps_connections_from_exited_worker_threads",
        "test_sqlite_session_closes_retired_connections_before_the_next_allocation",
        "test_sqlite_session_keeps_connections_of_live_worker_threads",
        "test_sqlite_session_pop_item_skips_corrupt_most_recent",
        "test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows",
        "test_sqlite_session_get_items_limit_skips_corrupt_newest_rows",
        "test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows",
        "test_sqlite_session_file_lock_is_shared_across_instances",
        "test_sqlite_session_rollback_failure_evicts_connection",
        "test_sqlite_session_close_retries_quarantined_connection",
        "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome",
        "test_settled_pop_failure_invalidates_response_chain",
        "test_settled_clear_failure_invalidates_response_chain",
    ],
    "reaches for the tables of the SDK's own class": [
        "test_sqlite_session_failed_add_items_releases_write_lock",
        "test_sqlite_session_failed_clear_session_rolls_back",
        "test_sqlite_session_failed_pop_item_releases_write_lock",
        "test_encrypted_pop_authentication_is_atomic_with_concurrent_mutations",
        "test_encrypted_pop_wrong_key_preserves_row_identity",
    ],
    "wants what EncryptedSession does over the SDK's own class alone, by isinstance": [
        "test_encrypted_pop_wrong_key_preserves_recoverable_history",
        "test_encrypted_pop_rechecks_authentication_after_expired_tail",
        "test_encrypted_pop_cancellation_waits_for_authentication_rollback",
    ],
    "closes the session, where ours has no connection of its own: its store has": [
        "test_sqlite_session_closed_rejects_empty_add_items",
    ],
}


def run(folder: Path) -> tuple[Outcome, Outcome]:
    """Run the suite in an empty folder, with the SDK's own class and with ours."""
    source = unpacked("openai-agents", folder)
    theirs = run_suite("openai-agents", source, PATHS)
    return theirs, run_suite("openai-agents", source, PATHS, "openai_agents_plugin", REASONS)
