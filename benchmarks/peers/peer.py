"""What every adapter offers, so that one program can measure them all."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

Message = dict[str, Any]

_ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Peer(Protocol):
    """A store of conversations, set up as its documentation tells an ASGI application to."""

    async def open(self, url: str, directory: Path) -> None:
        """Connect: to ``url`` where it is PostgreSQL's, else to a new file in ``directory``."""
        ...

    def convert(self, messages: Sequence[Message]) -> Any:
        """Return ``messages`` as ``append`` takes them; this is never measured."""
        ...

    async def fill(self, session_id: str, messages: Sequence[Message]) -> None:
        """Store a new conversation, by whatever way is the fastest; this is never measured."""
        ...

    async def load(self, session_id: str) -> Sequence[Any]:
        """Return all messages, through whatever an application may keep between requests."""
        ...

    async def load_last(self, session_id: str, count: int) -> Sequence[Any]:
        """Return the newest ``count`` messages; all are loaded where the API has no other way."""
        ...

    async def append(self, session_id: str, turn: Any) -> None:
        """Store a turn, as ``convert`` made it."""
        ...

    async def first_sight(self, session_id: str) -> Sequence[Any]:
        """Make what a session needs, and load it: a request for an id not seen before."""
        ...

    async def aclose(self) -> None:
        """Give back all connections and threads."""
        ...


def async_url(url: str, directory: Path, name: str) -> str:
    """Return SQLAlchemy's URL for an asyncio driver: of ``url``, or of a new file ``name``."""
    if is_postgresql(url):
        return url.replace("postgresql", _ASYNC_DRIVERS["postgresql"], 1)
    return f"{_ASYNC_DRIVERS['sqlite']}:///{sqlite_file(directory, name)}"


def sqlite_file(directory: Path, name: str) -> Path:
    """Return a new SQLite file in WAL mode, in which it stays for everybody who opens it.

    As ours and some of the peers have it; the others would leave SQLite's rollback journal, and be
    slower by that alone.
    """
    file = directory / f"{name}.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return file


def is_postgresql(url: str) -> bool:
    """Tell whether ``url`` is one of PostgreSQL's; what is not is for SQLite."""
    return url.startswith("postgresql")
