"""Stores that soon give up a wait, and have all the time of a busy machine for the rest."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import URL

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database import retry
from hermes_session_mw.database.workers import thread_executor
from hermes_session_mw.stores.sqlalchemy import executor_factory

_TIMEOUT = 60.0


def store_waiting(
    monkeypatch: pytest.MonkeyPatch, seconds: float, url: URL | str, **options: Any
) -> SQLAlchemyStore:
    """Return a store that waits ``seconds`` for a lock, in an operation that may take a minute.

    A store's own share leaves a tenth of its timeout for all but the wait. Where that is short, it
    may be over on a busy machine before the wait's own error is raised, or before there are tables.
    Who waited that long has no time for another attempt, as with a store's own share.
    """
    for module in (executor_factory, thread_executor):
        monkeypatch.setattr(module, "WAIT_SHARE", seconds / _TIMEOUT)

    def monotonic() -> float:
        return time.monotonic() * _TIMEOUT / seconds

    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=monotonic))
    return SQLAlchemyStore(url, timeout=_TIMEOUT, **options)


def give_up_after(monkeypatch: pytest.MonkeyPatch, store: SQLAlchemyStore, attempts: int) -> None:
    """Have the time of the store's operation be over once it has begun so many attempts.

    How many there are in a few seconds, and whether there is one, would be the machine's choice.
    """
    executor, begun = store._executor, 0
    run = executor.run

    def count(*args: Any, **kwargs: Any) -> Any:
        nonlocal begun
        begun += 1
        return run(*args, **kwargs)

    def monotonic() -> float:
        return time.monotonic() + (3600 if begun >= attempts else 0)

    monkeypatch.setattr(executor, "run", count)
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=monotonic))
