"""What every adapter offers, so that one program can measure them all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

Message = dict[str, Any]

_ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Peer(Protocol):
    """A store of conversations, set up as its documentation tells an ASGI application to."""

    name: str

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
    """Return SQLAlchemy's URL for an asyncio driver: of ``url``, or of a file called ``name``."""
    if is_postgresql(url):
        return url.replace("postgresql", _ASYNC_DRIVERS["postgresql"], 1)
    return f"{_ASYNC_DRIVERS['sqlite']}:///{directory / name}.db"


def is_postgresql(url: str) -> bool:
    """Tell whether ``url`` is one of PostgreSQL's; what is not is for SQLite."""
    return url.startswith("postgresql")
