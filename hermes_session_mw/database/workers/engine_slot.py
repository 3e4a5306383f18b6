"""Holds the engine that threads share, and closes what is left of one that nobody uses any more."""

import threading

from sqlalchemy import Connection, Engine


class EngineSlot:
    """The engine of an open store. Threads refer to it, and not to the store, which can be dropped.

    A thread cannot be cancelled: one whose caller has gone may still make an engine, or use a
    connection, after the store was closed or dropped. What it gives back then is closed.

    Attributes:
        engine: the engine; None before the first use, and after the last.
        closings: how often the store was closed. Whoever makes an engine names the number of his
            beginning, so that an engine never comes after the closing that should dispose of it.
    """

    def __init__(self, *, owned: bool) -> None:
        self.engine: Engine | None = None
        self.closings: int = 0
        self._owned = owned
        self._dropped: Engine | None = None
        self._lock = threading.Lock()

    def put(self, engine: Engine, closings: int) -> None:
        """Keep a new engine, or dispose of it if the store was closed since it was begun."""
        with self._lock:
            is_late = self.closings != closings
            if not is_late:
                self.engine = engine
        if is_late and self._owned:
            engine.dispose()

    def take(self) -> Engine | None:
        """Return the engine, for its disposal."""
        with self._lock:
            self.closings += 1
            engine, self.engine = self.engine, None
        return engine

    def drop(self) -> None:
        """Have the threads dispose of the engine as they end; the store was not closed."""
        self._dropped = self.take()

    def is_late(self, engine: Engine) -> bool:
        """Tell whether the engine is our own, and has been disposed of or will be."""
        return self._owned and engine is not self.engine

    def give_back(self, connection: Connection) -> None:
        """Give a connection back to its pool, or close it if nobody will look there again."""
        engine = connection.engine
        pool = engine.pool
        if self.is_late(engine):
            connection.invalidate()
        connection.close()
        # Again, for the pool may have been emptied just before; the engine has another one then.
        if self.is_late(engine):
            pool.dispose()
            engine.dispose()

    def dispose_of_dropped(self) -> None:
        """Dispose of the engine of a store that was dropped; in each of its threads."""
        if self._dropped is not None and self._owned:
            self._dropped.dispose()
