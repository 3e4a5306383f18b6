"""Hermes' file: its path, and the settings with which Hermes opens it.

The file is never created, moved or set up. Only SQLite opens it: closing a file releases all locks
that the process holds on it, also those of a Hermes in the same process.
"""

import os
from typing import Any

from sqlalchemy import Dialect, make_url
from sqlalchemy.exc import ArgumentError

from hermes_session_mw.database.sqlite_file import SQLiteFile, WriteTicket
from hermes_session_mw.exceptions import ConfigurationError, StoreMisconfigured, StoreUnavailable


def path_of(value: "str | os.PathLike[str]") -> str:
    """Return the absolute path of a path or ``sqlite:///`` URL; ``ConfigurationError`` else."""
    if not isinstance(value, str | os.PathLike):
        raise ConfigurationError(f"path: a {type(value).__name__} is neither a path nor a URL")
    path = os.fspath(value)
    if "://" in path:
        path = _path_of_url(path)
    if path in ("", ":memory:"):
        raise ConfigurationError("path: it is empty; give the path of Hermes' state.db")
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # a str, as SQLite has it


def _path_of_url(url: str) -> str:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("path: not a URL; one is sqlite:////home/me/state.db") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite") or parsed.query or parsed.host:
        raise ConfigurationError(
            "path: Hermes' database is a SQLite file: give its path, or a URL such as "
            "sqlite:////home/me/state.db"
        )
    return parsed.database or ""


class StateFile(SQLiteFile):
    """Hermes' file: checked like one of a store, but never created."""

    pragmas: tuple[str, ...] = (
        "foreign_keys = ON",
        "synchronous = FULL",
    )  # set for the connection: neither is stored in the file

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__(path, timeout)
        self._existed = True  # so that a missing file is never created
        self._was_seen = False

    def ticket(self) -> WriteTicket:
        """Return a ticket at once: there is no write queue, because Hermes would not wait in it."""
        return WriteTicket()

    def _before_connect(
        self, dialect: Dialect, record: object, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        if os.path.exists(self.path):  # noqa: PTH110  # as above
            self._was_seen = True
        elif self._was_seen:
            raise StoreUnavailable(
                "Hermes' database is gone, and is never created here: put it back"
            )
        else:
            raise StoreMisconfigured(
                f"there is no such file as {self.path}, and Hermes' database is never created "
                "here: give the path of its state.db, or start Hermes once"
            )
        super()._before_connect(dialect, record, arguments, options)
