"""Listens to notifications by a sync driver of PostgreSQL, in a thread of its own."""

import selectors
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine

from hermes_session_mw.database.connection import connect_aside
from hermes_session_mw.database.drivers import SERVER_PROCESS, TAKE_NOTIFICATIONS
from hermes_session_mw.database.interruption import shut_down_socket
from hermes_session_mw.database.listener import (
    ASK_SERVER_PROCESS,
    FIRST_PROBE,
    PROBE_AFTER,
    PROOF,
    TICK,
    CannotListen,
    Listener,
)
from hermes_session_mw.database.workers.engine_slot import EngineSlot

FindEngine = Callable[[], Callable[[int], Engine] | None]
"""A weak reference to the method that returns the engine, or makes it: see `EngineSlot`."""


class ThreadListener(Listener):
    """Hears notifications in a thread, which calls ``find_engine``."""

    def __init__(self, channel: str, find_engine: FindEngine, slot: EngineSlot) -> None:
        super().__init__(channel)
        self._find_engine = find_engine
        self._slot = slot
        self._starting = threading.Lock()
        self._running: _Listening | None = None

    def start(self) -> None:
        """See `Listener.start`; a thread that has hung for long is ended."""
        with self._starting:
            if self._running is not None:
                self._running.abort_if_hung()
                return
            listening = _Listening(self, self._find_engine, self._slot.closings)
            thread = threading.Thread(
                target=listening.run, name="hermes-session-listener", daemon=True
            )
            with suppress(RuntimeError):  # no thread can be started
                thread.start()
                self._running = listening

    def may_end(self, listening: "_Listening") -> bool:
        """Tell a thread whether to end because nobody needs it; the next watch begins another."""
        with self._starting:
            if self.is_needed() and self._running is listening:
                return False
            self._forget(listening, None)
            return True

    def finish(self, listening: "_Listening", reason: BaseException | None) -> None:
        """Note that a thread has ended, and why if something went wrong."""
        with self._starting:
            self._forget(listening, reason)

    def close(self) -> None:
        """End the thread, which closes its connection; a later watch begins another."""
        with self._starting:
            listening = self._running
            if listening is not None:
                self._forget(listening, None)
                listening.abort()

    def _forget(self, listening: "_Listening", reason: BaseException | None) -> None:
        if self._running is listening:
            self._running = None
            self.ended(reason)


class _Listening:
    """What one thread does: it connects, listens while it is needed, and closes the connection."""

    def __init__(self, listener: ThreadListener, find_engine: FindEngine, closings: int) -> None:
        self._closings = closings
        self._listener = listener
        self._find_engine = find_engine
        self._lock = threading.Lock()
        self._connection: Any = None
        self._is_aborted = False
        self._alive_at = time.monotonic()

    def run(self) -> None:
        """Listen, in the thread."""
        reason: BaseException | None = None
        try:
            make_engine = self._find_engine()
            if make_engine is not None:  # the store is not forgotten
                self._listen(make_engine(self._closings))
        except BaseException as exc:  # noqa: BLE001  # a driver raises what it likes
            reason = exc
        finally:
            self._listener.finish(self, reason)

    def abort(self) -> None:
        """Make the thread end; in any thread."""
        with self._lock:
            self._is_aborted = True
            if self._connection is not None:
                shut_down_socket(self._connection)

    def abort_if_hung(self) -> None:
        """End a thread that has waited for the server for long."""
        if time.monotonic() - self._alive_at > PROOF:
            self.abort()

    def _listen(self, engine: Engine) -> None:
        take = TAKE_NOTIFICATIONS[engine.dialect.driver]
        connection = connect_aside(engine)
        try:
            self._use(connection)
            self._begin(engine, connection)
            self._serve(connection, take)
        finally:
            with self._lock:  # nobody shuts down a socket that is another's by then
                self._connection = None
            with suppress(Exception):
                connection.close()

    def _begin(self, engine: Engine, connection: Any) -> None:
        driver = engine.dialect.driver
        _prepare(connection)
        told = SERVER_PROCESS[driver](connection)
        if _execute(connection, ASK_SERVER_PROCESS) != told:
            raise CannotListen("a pooler is between the server and its client")
        if driver == "psycopg":  # which else keeps what comes in the middle of a statement
            connection.add_notify_handler(lambda each: self._listener.received(each.payload))
        _execute(connection, f"LISTEN {self._listener.channel}")
        other = connect_aside(engine)
        try:
            self._use(other)
            _prepare(other)
            self._notify(other)
        finally:
            self._use(connection)
            other.close()

    def _serve(self, connection: Any, take: Callable[[Any], list[str]]) -> None:
        due = time.monotonic() + FIRST_PROBE
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            while not self._listener.may_end(self):
                selector.select(TICK)
                for payload in take(connection):
                    self._listener.received(payload)
                now = self._alive_at = time.monotonic()
                if now < due:
                    continue
                if not self._listener.is_live():
                    raise CannotListen("a notification did not come")
                self._notify(connection)
                due = now + PROBE_AFTER

    def _notify(self, connection: Any) -> None:
        values = (self._listener.channel, self._listener.probe)
        _execute(connection, "SELECT pg_notify(%s, %s)", values)

    def _use(self, connection: Any) -> None:
        """Note the connection on which the thread may wait from now on."""
        with self._lock:
            self._connection = connection
            if self._is_aborted:
                shut_down_socket(connection)


def _prepare(connection: Any) -> None:
    connection.rollback()
    connection.autocommit = True


def _execute(connection: Any, sql: str, values: tuple[str, ...] = ()) -> Any:
    """Execute a statement, and return the value that it returns, if any."""
    cursor = connection.cursor()
    cursor.execute(sql, values or None)
    value = cursor.fetchone()[0] if cursor.description else None
    cursor.close()
    return value
