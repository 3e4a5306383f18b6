"""The SQL of the first words of sessions that have no title: one statement for a page.

A message may be megabytes of pictures, so that only its beginning is read.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from sqlalchemy import and_, func, select

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.stores.first_words import FIRST_MESSAGES, first_words_of_json
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.sqlalchemy.schema.tables import messages, sessions
from hermes_session_mw.stores.sqlalchemy.statements.content import Content
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import KeyedRows

READ = 2048
"""Characters that are read of a message."""

_SESSIONS = KeyedRows(sessions, "id")
_ENCRYPTED = KeyedRows(
    sessions, "id", content=(Content(3, "message", (2,), may_lack=True, may_lack_key=True),)
)
_first = sessions.join(
    messages,
    and_(
        messages.c.owner == sessions.c.owner,
        messages.c.session_id == sessions.c.id,
        messages.c.seq >= sessions.c.first_seq,
        messages.c.seq < sessions.c.first_seq + FIRST_MESSAGES,
    ),
)
_place = (sessions.c.owner, sessions.c.id, messages.c.seq)
_beginnings = select(*_place, func.substr(messages.c.body, 1, READ)).select_from(_first)
# What is encrypted is decrypted as a whole.
_bodies = select(*_place, messages.c.body).select_from(_first)


def with_first_words(database: Database, infos: Sequence[SessionInfo]) -> list[SessionInfo]:
    """Return the sessions, those without a title with their first words.

    On databases other than PostgreSQL it is a statement for each hundred of them.
    """
    untitled = list({(each.owner, each.id) for each in infos if each.title is None})
    if not untitled:
        return list(infos)
    if database.encrypts:
        found = _ENCRYPTED.rows(database, _bodies, untitled)
    else:
        found = _SESSIONS.rows(database, _beginnings, untitled)
    rows = sorted(
        {
            (text_of(owner), text_of(id_), int(seq), text_of(body or ""))
            for owner, id_, seq, body in found
        }
    )
    words = {
        key: first_words_of_json([body for *_, body in group])
        for key, group in groupby(rows, key=lambda row: row[:2])
    }
    return [replace(each, first_words=words.get((each.owner, each.id)) or None) for each in infos]
