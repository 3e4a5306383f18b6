"""Sessions in logs, by a fingerprint of the id.

An id is a secret: anyone with the id can read the conversation.
"""

import copy
import hashlib
import logging
import re
from collections.abc import Collection
from contextvars import ContextVar
from typing import Protocol
from urllib.parse import unquote

logger: logging.Logger = logging.getLogger("hermes_session_mw")


class HasId(Protocol):
    """The part of a session that a log record needs."""

    @property
    def id(self) -> str:
        """The session's id, in full."""
        ...


current_session: ContextVar[HasId | None] = ContextVar("hermes_session", default=None)
"""The session of the current request; the middleware sets and resets it."""


def fingerprint(session_id: str) -> str:
    """Return 12 hexadecimal digits that stand for ``session_id`` in logs."""
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()[:12]


class _Replaced(str):
    """A text in which ids are replaced already: the filters of other handlers skip it."""

    __slots__ = ()


class SessionIdFilter(logging.Filter):
    """Give every log record ``hermes_session``: the current session's fingerprint, or ``"-"``.

    Attach it to a handler, and put ``%(hermes_session)s`` into the handler's format. Every line
    of one conversation then has the same 12 hexadecimal digits, in every worker process.
    """

    def __init__(self, *, paths: Collection[str] = ()) -> None:
        """Create a filter.

        Args:
            paths: URL paths below which the next segment is an id, as below the ``prefix`` of
                ``session_routes``: in the arguments of a record, such as the access logs of
                uvicorn and Hypercorn have, it is replaced by its fingerprint.
        """
        super().__init__()
        prefixes = "|".join(re.escape(path.rstrip("/")) for path in paths)
        # Repeated slashes may come before an id, though no route matches then.
        id_ = r"((?:(?!%2[Ff])[^/?#\s])+)"
        self._in_path = re.compile(rf"((?:{prefixes})(?:/|%2[Ff])+){id_}") if paths else None

    def filter(self, record: logging.LogRecord) -> bool:
        """Set ``hermes_session`` on the record, and return True."""
        session = current_session.get()
        record.hermes_session = "-" if session is None else fingerprint(session.id)
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._without_id, record.args))
        elif isinstance(record.args, dict):
            # A copy of the same class, which may look up its keys in its own way.
            own = copy.copy(record.args)
            own.update({name: self._without_id(value) for name, value in own.items()})
            record.args = own
        return True

    def _without_id(self, argument: object) -> object:
        if not isinstance(argument, str) or isinstance(argument, _Replaced):
            return argument
        if self._in_path is None:
            return argument
        text, count = self._in_path.subn(
            lambda found: found[1] + fingerprint(unquote(found[2])), argument
        )
        return _Replaced(text) if count else argument
