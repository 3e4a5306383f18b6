"""What takes long, and the dose of it that every run of the tests has.

The tests below `LONG` start and kill servers, or repeat for minutes. ``make test-long`` runs all of
them; ``make test`` leaves out those that are not in `DOSE`, by the marker ``long``. A dose has each
server and each kind of failure once, on one database and one driver.
So it is with `EVERY_CASE`: the contracts over every driver and event loop, of which `CASES` are in
every run.
"""

import pytest

LONG = (
    "tests/database/workers/test_event_loops.py",
    "tests/demo/test_demo_background_workers.py",
    "tests/integration/processes/",
    "tests/integration/clusters/",
    "tests/demo/test_demo_workers.py",
    "tests/integration/applications/",
    "tests/integration/assets/",
    "tests/integration/between/",
    "tests/integration/drivers/",
    "tests/integration/http2/",
    "tests/integration/proxies/front/",
    "tests/integration/runtimes/",
    "tests/integration/servers/test_servers_page.py",
    "tests/integration/proxies/test_pgbouncer.py",
    "tests/long/",
    "tests/packaging/test_dist.py",
    "tests/stores/sqlalchemy/test_answer_interleavings.py",
    "tests/stores/sqlalchemy/test_interleavings.py",
    "tests/demo/clients/test_clients_page.py::test_the_lines_of_a_client_print_what_the_page_says",
    "tests/demo/clients/test_matrix.py",
    "tests/demo/clients/test_restart.py",
    "tests/costs/test_answer_benchmarks.py",
    "tests/demo/test_page_workers.py",
)

DOSE = (
    # What may come between the statements of an operation, on one database.
    "tests/stores/sqlalchemy/test_answer_interleavings.py::test_a_question_is_stored_once_whatever_comes_between[sqlite",
    "tests/stores/sqlalchemy/test_interleavings.py::test_nothing_comes_between_two_statements[postgresql",
    # One client of each language.
    (
        "tests/demo/clients/test_clients_page.py"
        "::test_the_lines_of_a_client_print_what_the_page_says[python openai-agents-python-code0"
    ),
    (
        "tests/demo/clients/test_clients_page.py"
        "::test_the_lines_of_a_client_print_what_the_page_says[js ai-code5"
    ),
    "tests/demo/clients/test_matrix.py::test_every_environment_is_a_clients_and_pins_its_packages",
    "tests/demo/clients/test_restart.py::test_every_client_goes_on_after_a_restart[sqlite",
    "tests/demo/test_page_workers.py::test_another_device_finds_what_a_killed_worker_has_said",
    "tests/costs/test_answer_benchmarks.py::test_rejoins_are_measured",
    # Processes that share a database, each kind over one of them.
    "tests/integration/processes/test_answer_processes.py::test_a_killed_worker_leaves_what_it_wrote[postgresql-20",
    "tests/integration/processes/test_answer_processes.py::test_a_killed_worker_leaves_what_it_wrote[sqlite-0",
    "tests/integration/processes/test_answer_processes.py::test_another_worker_follows_and_stops[sqlite",
    (
        "tests/integration/processes/test_answer_processes.py"
        "::test_a_frozen_worker_is_told_that_another_went_on[mysql"
    ),
    "tests/integration/processes/test_edit_kills.py::test_killed_editors_lose_nothing[sqlite",
    "tests/integration/processes/test_processes.py::test_four_workers_write_one_conversation[sqlite",
    "tests/integration/processes/test_processes.py::test_a_test_client_may_be_used_twice",
    (
        "tests/integration/processes/test_processes.py"
        "::test_test_clients_over_postgresql_share_nothing_they_must_not[asyncpg"
    ),
    "tests/integration/processes/test_turn_processes.py::test_processes_take_turns[postgresql",
    "tests/integration/processes/test_turn_processes.py::test_a_crashed_holder_frees_the_turn[mysql",
    "tests/integration/processes/test_turn_processes.py::test_a_late_process_is_refused[sqlite",
    (
        "tests/demo/test_demo_background_workers.py"
        "::test_a_stream_that_was_cut_goes_on_at_another_worker[postgresql"
    ),
    (
        "tests/demo/test_demo_background_workers.py"
        "::test_a_response_is_polled_and_followed_at_another_worker[sqlite"
    ),
    (
        "tests/demo/test_demo_background_workers.py"
        "::test_a_response_is_cancelled_at_another_worker[mysql"
    ),
    "tests/demo/test_demo_background_workers.py::test_a_response_whose_worker_is_killed_has_failed",
    # Event loops that end before their stores do.
    *(
        f"tests/database/workers/test_event_loops.py::{test}"
        for test in (
            "test_a_loop_takes_its_connections_with_it[postgresql+asyncpg",
            "test_a_test_client_without_with_leaves_nothing[mysql+asyncmy",
            "test_the_next_loop_ends_what_a_closed_one_left[sqlite+aiosqlite",
            "test_a_closed_store_has_nothing_left_for_its_loop_to_end",
            "test_a_loop_is_not_kept_by_what_threads_tell_it",
            "test_loops_at_once_each_have_their_value",
        )
    ),
    # What is published, installed for itself.
    "tests/packaging/test_dist.py::test_the_",
    "tests/packaging/test_dist.py::test_an_index_would_take_both_files",
    "tests/packaging/test_dist.py::test_every_python_that_is_named_is_allowed",
    "tests/packaging/test_dist.py::test_type_checkers_tell_users_what_is_promised",
    # The demo, four workers behind nginx, and one of them killed.
    "tests/demo/test_demo_workers.py::test_an_answer_survives_its_tab_and_a_conversation_its_worker[sqlite",
    "tests/demo/test_demo_workers.py::test_a_repeated_request_joins_its_answer_behind_nginx[postgresql",
    # MariaDB Galera: a node that is killed, one that rejects, and a turn that is too large.
    "tests/integration/clusters/test_galera.py::test_a_turn_is_read_on_every_node_at_once",
    "tests/integration/clusters/test_galera.py::test_a_killed_node_costs_nothing_acknowledged[IST",
    "tests/integration/clusters/test_galera.py::test_a_node_that_rejects_is_left_for_another[pymysql",
    "tests/integration/clusters/test_galera.py::test_a_turn_over_the_write_set_is_named",
    # A PostgreSQL primary and its standby: a failover, and reading from the standby.
    "tests/integration/clusters/test_standby.py::test_a_failover_costs_nothing_acknowledged[psycopg-",
    "tests/integration/clusters/test_standby.py::test_a_store_over_a_standby_goes_on_reading[asyncpg",
    (
        "tests/integration/clusters/test_standby.py::test_hosts_none_of_which_takes_writes_are_unavailable"
        "[psycopg-"
    ),
    # Two MariaDB servers behind one address.
    (
        "tests/integration/clusters/test_switchover.py::test_a_server_that_is_read_only_now_is_left"
        "[mysql+asyncmy"
    ),
    (
        "tests/integration/clusters/test_switchover.py::test_a_server_that_stays_read_only_is_unavailable"
        "[mysql+pymysql-trio"
    ),
    # PgBouncer: what each driver does with statements, the contract over one driver, and a pooler
    # that is killed.
    "tests/integration/proxies/test_pgbouncer.py::TestStoreContract",
    "tests/integration/proxies/test_pgbouncer.py::TestLifecycleContract::test_a_r",
    "tests/integration/proxies/test_pgbouncer.py::test_no_statement_has_a_name",
    (
        "tests/integration/proxies/test_pgbouncer.py::test_nothing_is_lost_while_the_pooler_is_disturbed"
        "[transaction-postgresql+psycopg-"
    ),
    "tests/integration/proxies/test_pgbouncer.py::test_an_engine_of_the_callers_without_names",
    (
        "tests/integration/proxies/test_pgbouncer.py::test_statements_that_have_names_lose_nothing"
        "[asked-for-postgresql+asyncpg-"
    ),
    # Two proxies by the configurations that the page has for them, and what their caches keep.
    *(
        f"tests/integration/proxies/front/test_front.py::test_what_a_proxy_does[{case}]"
        for case in ("right-nginx", "right-HAProxy", "caching-nginx", "caching-HAProxy")
    ),
    "tests/integration/proxies/front/test_front.py::test_the_page_has_a_cell_for_each_case",
    # Servers that are in no other test: daphne, and Mangum.
    "tests/integration/servers/test_servers_page.py::test_what_a_server_does[daphne]",
    "tests/integration/servers/test_servers_page.py::test_one_option_has_mangum_keep_the_engine",
    "tests/integration/servers/test_servers_page.py::test_the_page_has_a_cell_for_each_case",
    # An application that needs no environment of its own.
    "tests/integration/applications/test_applications.py::test_what_an_application_does[mcp]",
    "tests/integration/applications/test_applications.py::test_the_page_has_a_row_for_each_application",
    "tests/integration/assets/test_assets.py::test_the_page_has_a_row_for_each_framework",
    "tests/integration/drivers/test_drivers_page.py::test_the_page_has_a_row_for_each_driver",
    "tests/integration/runtimes/test_runtimes.py::test_a_few_tests_pass_without_assertions_on_uvloop",
    "tests/integration/runtimes/test_runtimes.py::test_the_page_has_what_was_run",
    "tests/integration/between/test_poolers_page.py::test_the_page_has_a_row_for_each_pooler",
    # HTTP/2 before one of them.
    "tests/integration/http2/test_http2.py::test_what_http_2_does[nginx]",
    "tests/integration/http2/test_http2.py::test_the_page_has_a_cell_for_each_case",
    # The programs of the torture, but for those that other tests here stand for: servers and a
    # pooler that are killed. What checks them, and the fuzz, whole.
    "tests/long/fuzz/",
    # Answers cut off over SQLite, and what judges them.
    "tests/long/cuts/test_clients.py",
    "tests/long/cuts/test_cuts.py::test_nothing_is_lost_and_nothing_doubled[sqlite]",
    "tests/long/cuts/test_judge.py",
    "tests/long/torture/model/test_model.py",
    "tests/long/torture/test_checker.py",
    *(
        f"tests/long/torture/test_torture.py::test_what_was_acknowledged_stays[{program}]"
        for program in (
            "kills-sqlite",
            "lost-mysql+pymysql",
            "model-sqlite",
            "prune-mysql+pymysql",
            "replace-postgresql",
        )
    ),
)

EVERY_CASE = (
    "tests/contract/test_answer_contract.py",
    "tests/contract/test_lifecycle_contract.py",
    "tests/contract/test_message_contract.py",
    "tests/contract/test_store_contract.py",
    "tests/database/test_hung_database.py",
    "tests/stores/sqlalchemy/encryption/test_contract.py",
)
"""What is held over every store, driver and event loop: the contracts, and databases that hang."""

CASES = (
    "memory-asyncio",
    "sqlite-trio",
    "postgresql+psycopg-trio",
    "postgresql+asyncpg-asyncio",
    "mysql+pymysql-trio",
    "-postgresql+psycopg]",  # where the loop does not matter
)
"""The cases that are in every run: each database, and a driver of threads and one of the loop."""

FIRST = (
    "tests/adapters/test_frameworks.py",
    "tests/stores/sqlalchemy/test_answer_interleavings.py",
    "tests/stores/sqlalchemy/test_interleavings.py",
    "tests/packaging/test_dist.py",
    "tests/demo/clients/test_clients_page.py",
    "tests/demo/hermes_api/",
    "tests/database/workers/test_event_loops.py",
    "tests/integration/processes/",
    "tests/long/",
    "tests/integration/clusters/",
    "tests/integration/proxies/",
    "tests/demo/test_demo_background_workers.py",
    "tests/database/test_hung_database.py",
    "tests/packaging/test_workflows.py",
    "tests/docs/",
    "tests/contract/",
    "tests/demo/",
)
"""Modules of few tests that take long, and folders of long modules: what begins last ends last.

pytest-xdist would begin with the modules that have the most tests, and leave these to the end, each
to one process while the others have nothing to do (``--no-loadscope-reorder``).
"""


def order(items: list[pytest.Item]) -> None:
    """Have what is in `FIRST` come first, in that order."""

    def place(item: pytest.Item) -> int:
        places = (place for place, name in enumerate(FIRST) if item.nodeid.startswith(name))
        return next(places, len(FIRST))

    items.sort(key=place)


def mark(items: list[pytest.Item]) -> None:
    """Give the marker ``long`` to each test of the long ones that is not in the dose."""
    for item in items:
        if is_long(item):
            item.add_marker(pytest.mark.long)


def is_long(item: pytest.Item) -> bool:
    """Tell whether ``make test`` leaves out the test."""
    if item.nodeid.startswith(EVERY_CASE):
        call = getattr(item, "callspec", None)
        has_cases = call is not None and not call.params.keys().isdisjoint({"case", "driver"})
        return has_cases and not any(case in item.nodeid for case in CASES)
    return item.nodeid.startswith(LONG) and not item.nodeid.startswith(DOSE)
