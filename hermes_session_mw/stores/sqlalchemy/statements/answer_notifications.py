"""PostgreSQL's notifications of an answer: of its events and its end, and of requests to stop it.

A notification only wakes those who read the tables anyway; what it says is a hash, because whoever
may connect to the database can listen. A commit with a notification takes a lock of the whole
server, so that events are told only while another process has asked for that (`follow` of
`read_answers`).
"""

import hashlib

from sqlalchemy import ColumnElement, bindparam, case, func

from hermes_session_mw.stores.sqlalchemy.schema.tables import answers
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds

CHANNEL = "hermes_answers"
"""The channel of all notifications."""

FOLLOWED_FOR = 30.0
"""Seconds for which notifications are sent after they were asked for."""

RENEWAL = 20.0
"""Seconds after which they are asked for again."""

_notify = func.pg_notify(CHANNEL, bindparam("topic"))

NOTIFY_FOLLOWERS: ColumnElement[None] = case(
    (answers.c.followed_until > now_in_milliseconds(), _notify)
)
"""Notifies of ``topic`` if another process follows; a column of a statement on `answers`."""

NOTIFY: ColumnElement[None] = _notify
"""Notifies of ``topic``."""


def events_topic(answer_id: str, owner: str) -> str:
    """Return what a notification of an answer's events or end says."""
    return _topic("events", answer_id, owner)


def stop_topic(answer_id: str, owner: str) -> str:
    """Return what a notification of a request to stop an answer says."""
    return _topic("stop", answer_id, owner)


def _topic(kind: str, answer_id: str, owner: str) -> str:
    return hashlib.sha256(f"{kind}\n{owner}\n{answer_id}".encode()).hexdigest()[:32]
