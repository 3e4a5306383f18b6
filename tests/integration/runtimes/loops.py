"""A pytest plugin: tests over asyncio run on the event loop that HERMES_TEST_LOOP names.

``uvloop``, or ``eager``: asyncio's own, which begins tasks at once (`asyncio.eager_task_factory`).
A test that asks for a loop of its own has that. A run that made no such loop has failed.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from anyio import pytest_plugin

made = 0
"""How many loops there were."""


def _eager() -> Any:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12 has it
    return loop


def _uvloop() -> Any:
    import uvloop  # noqa: PLC0415  # PyPy has none

    return uvloop.new_event_loop()


LOOPS: dict[str, Callable[[], Any]] = {"eager": _eager, "uvloop": _uvloop}


def pytest_configure() -> None:
    """Give the loop to anyio's plugin, which makes one for each test."""
    if name := os.environ.get("HERMES_TEST_LOOP"):
        plugin: Any = pytest_plugin
        find, make = plugin.extract_backend_and_options, LOOPS[name]

        def counted() -> Any:
            global made  # noqa: PLW0603  # the whole run counts
            made += 1
            return make()

        def extract(backend: object) -> tuple[str, dict[str, Any]]:
            backend_name, options = find(backend)
            if backend_name == "asyncio" and not options:
                options = {"loop_factory": counted}
            return backend_name, options

        plugin.extract_backend_and_options = extract


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run whose loops were others."""
    if os.environ.get("HERMES_TEST_LOOP") and not made:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
