"""One transaction for the writes that wait at the same time: a COMMIT is what a small write costs.

The first task begins the transaction. Those that wait behind it run in it, each behind a savepoint,
so that the failure of one is its own; then all are committed at once. A failed COMMIT is the
failure of each: whether it was stored is looked up for each by its own retry.
"""

import time
from typing import Any

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import (
    CommitFailed,
    begin_again,
    transaction,
    undo_shared,
)
from hermes_session_mw.database.workers.executor import T, Work
from hermes_session_mw.database.workers.worker_pool import Task, WorkerPool

_MOST = 64
"""Tasks of one transaction."""

_LONGEST = 0.02
"""Seconds after which no more tasks join, so that the first need not wait long for the last."""

_SAVEPOINT = "hermes_session_joined"


class _Lost(Exception):
    """Another task's failure has ended the transaction; nothing was committed."""


def run_shared(database: Database, work: Work[T], task: Task[Any], workers: WorkerPool) -> T:
    """Return what ``work`` returns, after it was committed with what waits behind ``task``."""
    try:
        return _run_once(database, work, task, workers)
    except _Lost:
        _put_back(task, workers)
        raise database.out_of_transaction("another's failure has ended the transaction") from None
    except CommitFailed as exc:
        for other in task.joined:
            other.fail(CommitFailed(exc.cause))
        raise
    except BaseException:
        _put_back(task, workers)
        raise
    finally:
        for other in task.joined:
            other.end()


def _run_once(database: Database, work: Work[T], task: Task[Any], workers: WorkerPool) -> T:
    with transaction(database):
        database.is_shared, database.savepoint = True, None
        try:
            value = work(database)
            begin_again(database)
            _run_others(database, task, workers)
        finally:
            database.is_shared = False
            if not (database.connection.invalidated or database.in_transaction()):
                database.command("BEGIN")  # what failed is undone, and is still to be rolled back
    return value


def _run_others(database: Database, task: Task[Any], workers: WorkerPool) -> None:
    until = time.monotonic() + _LONGEST
    while len(task.joined) < _MOST - 1 and time.monotonic() < until:
        other = workers.take_joining()
        if other is None:
            return
        task.joined.append(other)
        if other.start():
            _run_one(database, other)


def _run_one(database: Database, other: Task[Any]) -> None:
    """Run a task behind a savepoint."""
    database.command(f"SAVEPOINT {_SAVEPOINT}")
    database.savepoint = _SAVEPOINT
    try:
        other.run_joining(database)
    except Exception as exc:
        other.fail(exc)
        if not undo_shared(database):
            raise _Lost from exc
    database.command(f"RELEASE SAVEPOINT {_SAVEPOINT}")


def _put_back(task: Task[Any], workers: WorkerPool) -> None:
    """Have the tasks run again that have not failed by themselves."""
    task.joined, innocent = (
        [other for other in task.joined if other.has_failed],
        [other for other in task.joined if not other.has_failed],
    )
    for other in innocent:
        other.end()
    workers.put_back(innocent)
