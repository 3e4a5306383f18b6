"""Naming a session in logs without giving its id away.

An id is a secret: who has it can read the conversation. Logs get its fingerprint instead.
"""

import hashlib
import logging
import re
from collections.abc import Collection
from contextvars import ContextVar
from typing import Protocol
from urllib.parse import unquote

logger: logging.Logger = logging.getLogger("hermes_session_mw")


class HasId(Protocol):
    """What a log needs to know of a session."""

    @property
    def id(self) -> str:
        """The session's id, in full."""
        ...


current_session: ContextVar[HasId | None] = ContextVar("hermes_session", default=None)
"""The session of the request that is being served; the middleware sets and resets it."""


def fingerprint(session_id: str) -> str:
    """Return 12 hexadecimal digits that name ``session_id`` in logs and do not give it away."""
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()[:12]


class SessionIdFilter(logging.Filter):
    """Give every log record ``hermes_session``: the current session's fingerprint, or ``"-"``.

    Attach it to a handler, and put ``%(hermes_session)s`` into the handler's format. Every line
    of one conversation then carries the same 12 hexadecimal digits, on every worker.
    """

    def __init__(self, *, paths: Collection[str] = ()) -> None:
        """Make a filter.

        Args:
            paths: URL paths below which the next segment is an id, as below the ``prefix`` of
                ``session_routes``: in the arguments of a record, such as uvicorn's access log
                has, it is replaced by its fingerprint.
        """
        super().__init__()
        prefixes = "|".join(re.escape(path.rstrip("/")) for path in paths)
        self._in_path = re.compile(rf"({prefixes})/([^/?#]+)") if paths else None

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark ``record`` and let it through."""
        session = current_session.get()
        record.hermes_session = "-" if session is None else fingerprint(session.id)
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._without_id, record.args))
        return True

    def _without_id(self, argument: object) -> object:
        if not isinstance(argument, str) or self._in_path is None:
            return argument
        return self._in_path.sub(
            lambda found: f"{found[1]}/{fingerprint(unquote(found[2]))}", argument
        )
