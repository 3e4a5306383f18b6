"""Listens to notifications by an asyncio driver of PostgreSQL, in a task of the event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from hermes_session_mw.database.connection import connect_aside
from hermes_session_mw.database.drivers import SERVER_PROCESS, TAKE_NOTIFICATIONS
from hermes_session_mw.database.listener import (
    ASK_SERVER_PROCESS,
    FIRST_PROBE,
    PROBE_AFTER,
    TICK,
    CannotListen,
    Listener,
)

_PATIENCE = 10.0
"""Seconds that the server has for a statement; some drivers would wait for ever."""

_CLOSING = 1.0
"""Seconds that the server has to take leave of a connection."""


class AsyncioListener(Listener):
    """Hears notifications in one event loop, in which its watches are made and ended.

    ``find_engine`` returns the loop's engine.
    """

    def __init__(self, channel: str, find_engine: Callable[[], Awaitable[AsyncEngine]]) -> None:
        super().__init__(channel)
        self._find_engine = find_engine
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """See `Listener.start`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Close the connection; a later watch opens another."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        reason: Exception | None = None
        try:
            engine = (await self._find_engine()).sync_engine
            await self._listen(engine)
        except Exception as exc:  # noqa: BLE001  # a driver raises what it likes
            reason = exc
        finally:
            self._task = None
            self.ended(reason)

    async def _listen(self, engine: Engine) -> None:
        connection = await _connect(engine)
        try:
            await self._begin(engine, connection)
            await self._serve(connection)
        finally:
            await connection.close()

    async def _begin(self, engine: Engine, connection: "_Connection") -> None:
        async with asyncio.timeout(_PATIENCE):
            if await connection.ask(ASK_SERVER_PROCESS) != connection.told_process:
                raise CannotListen("a pooler is between the server and its client")
            await connection.listen(self.channel, self.received)
            other = await _connect(engine)
            try:
                await other.notify(self.channel, self.probe)
            finally:
                await other.close()

    async def _serve(self, connection: "_Connection") -> None:
        now = asyncio.get_running_loop().time
        due = now() + FIRST_PROBE
        while self.is_needed():
            await connection.wait_lost(min(TICK, max(due - now(), 0)))
            if now() < due:
                continue
            if not self.is_live():
                raise CannotListen("a notification did not come")
            async with asyncio.timeout(_PATIENCE):
                await connection.notify(self.channel, self.probe)
            due = now() + PROBE_AFTER


async def _connect(engine: Engine) -> "_Connection":
    driver = engine.dialect.driver
    connection = await greenlet_spawn(connect_aside, engine)
    return _CONNECTIONS[driver](connection, SERVER_PROCESS[driver](connection))


class _Connection:
    """A driver's connection.

    Attributes:
        told_process: the server's process, as the driver was told.
    """

    def __init__(self, connection: Any, told_process: int) -> None:
        self.told_process = told_process
        self._connection = connection
        self._lost = asyncio.Event()
        self._reason: Exception | None = None

    async def ask(self, sql: str) -> Any:
        """Return the value of a query."""
        raise NotImplementedError

    async def notify(self, channel: str, payload: str) -> None:
        """Send a notification."""
        raise NotImplementedError

    async def listen(self, channel: str, received: Callable[[str], None]) -> None:
        """Have ``received`` called with what notifications say."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close it."""
        raise NotImplementedError

    async def wait_lost(self, seconds: float) -> None:
        """Wait for some seconds; raise if the connection is lost by then."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._lost.wait(), seconds)
        if self._lost.is_set():
            raise CannotListen("the connection was lost") from self._reason

    def _lose(self, reason: Exception | None = None) -> None:
        self._reason = reason
        self._lost.set()


class _AsyncpgConnection(_Connection):
    async def ask(self, sql: str) -> Any:
        return await self._connection.fetchval(sql)

    async def notify(self, channel: str, payload: str) -> None:
        await self._connection.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def listen(self, channel: str, received: Callable[[str], None]) -> None:
        self._connection.add_termination_listener(lambda _: self._lose())
        await self._connection.add_listener(channel, lambda *values: received(values[-1]))

    async def close(self) -> None:
        with suppress(Exception):
            await self._connection.close(timeout=_CLOSING)


class _PsycopgConnection(_Connection):
    def __init__(self, connection: Any, told_process: int) -> None:
        super().__init__(connection, told_process)
        self._received: Callable[[str], None] = lambda _: None
        self._read_from: int | None = None

    async def ask(self, sql: str) -> Any:
        cursor = await self._connection.execute(sql)
        (value,) = await cursor.fetchone()
        return value

    async def notify(self, channel: str, payload: str) -> None:
        await self._connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))
        await self._connection.commit()
        self._read_on()

    async def listen(self, channel: str, received: Callable[[str], None]) -> None:
        self._received = received
        # For what comes in the middle of a statement.
        self._connection.add_notify_handler(lambda each: received(each.payload))
        await self._connection.execute(f"LISTEN {channel}")
        await self._connection.commit()
        self._read_on()

    async def close(self) -> None:
        self._stop_reading()
        await self._connection.close()

    def _read_on(self) -> None:
        # After each statement, for which the driver reads by itself.
        self._read_from = self._connection.fileno()
        asyncio.get_running_loop().add_reader(self._read_from, self._read)

    def _stop_reading(self) -> None:
        if self._read_from is not None:
            asyncio.get_running_loop().remove_reader(self._read_from)
            self._read_from = None

    def _read(self) -> None:
        try:
            payloads = TAKE_NOTIFICATIONS["psycopg"](self._connection)
        except Exception as exc:  # noqa: BLE001  # a driver raises what it likes
            self._stop_reading()  # libpq has closed the socket
            self._lose(exc)
        else:
            for payload in payloads:
                self._received(payload)


_CONNECTIONS: dict[str, type[_Connection]] = {
    "asyncpg": _AsyncpgConnection,
    "psycopg": _PsycopgConnection,
}
