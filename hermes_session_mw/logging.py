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

    def __init__(self, *, paths: Collection[str] = (), parameters: Collection[str] = ()) -> None:
        """Create a filter.

        In the arguments of a record, such as the access logs of uvicorn and Hypercorn have, ids in
        URLs are replaced by their fingerprints.

        Args:
            paths: URL paths below which the next segment is an id, as below the ``prefix`` of
                ``session_routes``. A path may itself have ids in braces, which are replaced too:
                ``/v1/conversations/{id}/items``.
            parameters: names of parameters of the query that are ids, such as ``after``.
        """
        super().__init__()
        # The longest first: a path may continue another one.
        found = [_below(path) for path in sorted(paths, key=len, reverse=True)]
        found += [rf"[?&]{re.escape(name)}=([^&#\s]+)" for name in parameters]
        self._ids = re.compile("|".join(found)) if found else None

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
        if self._ids is None:
            return argument
        text, count = self._ids.subn(_with_fingerprints, argument)
        return _Replaced(text) if count else argument


_SEPARATOR = "(?:/|%2[Ff])+"  # slashes may be repeated, though no route matches then
_ID = r"((?:(?!%2[Ff])[^/?#\s])+)"
_BRACES = re.compile(r"/+\{[^/{}]*\}/*")


def _below(path: str) -> str:
    """Return the pattern of a path and the id below it, in which each id is a group."""
    parts = map(re.escape, _BRACES.split(path.rstrip("/")))
    return f"{_SEPARATOR}{_ID}{_SEPARATOR}".join(parts) + _SEPARATOR + _ID


def _with_fingerprints(found: re.Match[str]) -> str:
    text, at = "", found.start()
    for start, end in found.regs[1:]:
        if start >= 0:
            id_ = unquote(found.string[start:end])
            text, at = text + found.string[at:start] + fingerprint(id_), end
    return text + found.string[at : found.end()]
