"""The tables, with a prefix, so that they fit into the application's own database.

Loading a history is one range scan of one table's primary key, without a join: ``hermes_messages``
has its messages, numbered from ``first_seq`` to before ``next_seq`` without a gap, and
``hermes_archive`` those that were archived. These two, the sessions and the keys can be sharded by
owner, and all but the keys by session; ``hermes_counters`` has a few numbers for each database.
Messages are ordered by ``seq``, which comes from ``next_seq``, and never by a clock.
``hermes_message_ids`` has the ids of those messages that were appended with one.

``hermes_labels`` is an index of the sessions that have a label, which a session's row has too.

``hermes_answers`` and ``hermes_answer_events`` have the answers that run, or ended lately; they can
be sharded by owner.
"""

from typing import Any, TypedDict

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    DateTime,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    bindparam,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.dialects import MYSQL, key_type
from hermes_session_mw.stores.labels import MAX_LABEL
from hermes_session_mw.stores.models import MAX_DIGEST, MAX_KEY_LENGTH
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now

metadata: MetaData = MetaData()


def _key(name: str) -> TypeEngine[str]:
    return key_type(MAX_KEY_LENGTH[name])


_words = Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)
_body = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)
# MySQL's DATETIME is in the connection's time zone; its TIMESTAMP is in UTC.
_time = DateTime(timezone=True).with_variant(mysql.TIMESTAMP(), *MYSQL)
INNODB: dict[str, Any] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}
ENGINE_OPTIONS: dict[str, Any] = {"sqlite_with_rowid": False, **INNODB}


def _counter(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


sessions: Table = Table(
    "hermes_sessions",
    metadata,
    Column("owner", _key("owner")),
    Column("id", _key("session_id")),
    Column("next_seq", BigInteger, nullable=False),
    Column("turns", BigInteger, nullable=False),
    Column("created_at", _time, nullable=False, server_default=now()),
    Column("updated_at", _time, nullable=False, server_default=now()),
    # Once set, it stays: a late append finds the row, and is refused.
    Column("deleted_at", _time, nullable=True),
    _counter("first_seq"),
    _counter("archived"),
    # The last lease: its fence, and when it expires by the database's clock, in milliseconds from
    # 1970.
    _counter("fence"),
    _counter("leased_until"),
    Column("title", _words, nullable=True),
    Column("parent_id", _key("session_id"), nullable=True),
    # The fence of the open answer's lease; NULL where no answer is open.
    Column("answer_fence", BigInteger, nullable=True),
    Column("metadata", _body, nullable=True),  # a JSON object
    # 1 once a message was appended with an id: where it is 0, hermes_message_ids is not asked.
    _counter("has_message_ids"),
    # What encrypts the session's content, wrapped by a master key; NULL where nothing is encrypted.
    Column("data_key", _words, nullable=True),
    Column("tags", _words, nullable=True),  # a JSON array of texts
    _counter("pinned"),
    _counter("shelved"),
    # 1 where hermes_labels has rows of the session; the last of these columns, for which is asked.
    _counter("has_labels"),
    PrimaryKeyConstraint("owner", "id"),
    **ENGINE_OPTIONS,
)

messages: Table = Table(
    "hermes_messages",
    metadata,
    Column("owner", _key("owner")),
    Column("session_id", _key("session_id")),
    Column("seq", BigInteger),
    Column("turn_id", _key("turn_id"), nullable=False),
    Column("body", _body, nullable=False),
    Column("created_at", _time, nullable=False, server_default=now()),
    PrimaryKeyConstraint("owner", "session_id", "seq"),
    ForeignKeyConstraint(
        ["owner", "session_id"], ["hermes_sessions.owner", "hermes_sessions.id"], ondelete="CASCADE"
    ),
    **ENGINE_OPTIONS,
)

message_ids: Table = Table(
    "hermes_message_ids",
    metadata,
    Column("owner", _key("owner")),
    Column("session_id", _key("session_id")),
    Column("message_id", _key("message_id")),
    Column("seq", BigInteger, nullable=False),  # the message's, which is in the history
    PrimaryKeyConstraint("owner", "session_id", "message_id"),
    ForeignKeyConstraint(
        ["owner", "session_id"], ["hermes_sessions.owner", "hermes_sessions.id"], ondelete="CASCADE"
    ),
    **ENGINE_OPTIONS,
)

labels: Table = Table(
    "hermes_labels",
    metadata,
    Column("owner", _key("owner")),
    Column("session_id", _key("session_id")),
    Column("name", key_type(MAX_LABEL)),
    # As in the session's row, so that an index has a label's sessions in the order of lists.
    Column("updated_at", _time, nullable=False, server_default=now()),
    PrimaryKeyConstraint("owner", "session_id", "name"),
    ForeignKeyConstraint(
        ["owner", "session_id"], ["hermes_sessions.owner", "hermes_sessions.id"], ondelete="CASCADE"
    ),
    **ENGINE_OPTIONS,
)

archive: Table = Table(
    "hermes_archive",
    metadata,
    Column("owner", _key("owner")),
    Column("session_id", _key("session_id")),
    Column("number", BigInteger),  # in the order of the archiving, from 0
    Column("seq", BigInteger, nullable=False),
    Column("turn_id", _key("turn_id"), nullable=False),
    Column("body", _body, nullable=False),
    Column("reason", String(20), nullable=False),
    Column("archived_at", _time, nullable=False, server_default=now()),
    # What archived it, where a repetition could not tell by a turn: a pop, say.
    Column("operation", String(20), nullable=True),
    PrimaryKeyConstraint("owner", "session_id", "number"),
    ForeignKeyConstraint(
        ["owner", "session_id"], ["hermes_sessions.owner", "hermes_sessions.id"], ondelete="CASCADE"
    ),
    **ENGINE_OPTIONS,
)

keys: Table = Table(
    "hermes_keys",
    metadata,
    Column("owner", _key("owner")),
    Column("name", _key("key")),
    # No foreign key: a key is bound before the session's first message is stored.
    Column("session_id", _key("session_id"), nullable=False),
    Column("updated_at", _time, nullable=False, server_default=now()),
    PrimaryKeyConstraint("owner", "name"),
    **ENGINE_OPTIONS,
)

counters: Table = Table(
    "hermes_counters",
    metadata,
    # Numbers that are kept when sessions' rows are removed: a few rows for the whole store.
    Column("name", String(20), primary_key=True),
    Column("value", BigInteger, nullable=False),
    **ENGINE_OPTIONS,
)

answers: Table = Table(
    "hermes_answers",
    metadata,
    Column("owner", _key("owner")),
    Column("id", _key("answer_id")),
    Column("session_id", _key("session_id"), nullable=False),
    Column("turn_id", _key("turn_id"), nullable=True),
    Column("question", _body, nullable=False),  # a JSON array
    Column("replace_from", BigInteger, nullable=True),
    Column("digest", String(MAX_DIGEST), nullable=True),  # of the request
    # The fence that its writer has to have; 0 once it was folded.
    Column("fence", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),
    Column("begun", _body, nullable=True),  # the message that it continues, as JSON
    Column("message", _body, nullable=True),
    # The history's length with its turn.
    Column("length", BigInteger, nullable=True),
    _counter("stop_requested"),
    # In milliseconds from 1970, by the database's clock; NULL while it is open.
    Column("ended_at", BigInteger, nullable=True),
    # Until then, by the same clock, another process is to be notified of events; PostgreSQL only.
    Column("followed_until", BigInteger, nullable=True),
    PrimaryKeyConstraint("owner", "id"),
    ForeignKeyConstraint(
        ["owner", "session_id"], ["hermes_sessions.owner", "hermes_sessions.id"], ondelete="CASCADE"
    ),
    **ENGINE_OPTIONS,
)

answer_events: Table = Table(
    "hermes_answer_events",
    metadata,
    Column("owner", _key("owner")),
    Column("answer_id", _key("answer_id")),
    # The numbers of the first event in the row, and of the last one.
    Column("first", BigInteger),
    Column("last", BigInteger, nullable=False),
    Column("body", _body, nullable=False),  # JSON texts, one on each line
    # What the message grew by with them, as a JSON array; NULL if it is their texts.
    Column("growth", _body, nullable=True),
    PrimaryKeyConstraint("owner", "answer_id", "first"),
    ForeignKeyConstraint(
        ["owner", "answer_id"], ["hermes_answers.owner", "hermes_answers.id"], ondelete="CASCADE"
    ),
    **ENGINE_OPTIONS,
)

# A page of an owner's list is the next entries. MySQL has those of deleted sessions, too.
_is_there = sessions.c.deleted_at.is_(None)
Index(
    "ix_hermes_sessions_updated_at",
    sessions.c.owner,
    sessions.c.updated_at.desc(),
    sessions.c.id,
    sqlite_where=_is_there,
    postgresql_where=_is_there,
)
Index(
    "ix_hermes_labels_name",
    labels.c.owner,
    labels.c.name,
    labels.c.updated_at.desc(),
    labels.c.session_id,
)
Index("ix_hermes_messages_turn_id", messages.c.owner, messages.c.session_id, messages.c.turn_id)
Index("ix_hermes_message_ids_message_id", message_ids.c.owner, message_ids.c.message_id)
Index("ix_hermes_message_ids_seq", message_ids.c.owner, message_ids.c.session_id, message_ids.c.seq)
Index("ix_hermes_archive_turn_id", archive.c.owner, archive.c.session_id, archive.c.turn_id)
Index("ix_hermes_keys_session_id", keys.c.owner, keys.c.session_id)
Index("ix_hermes_answers_session_id", answers.c.owner, answers.c.session_id)
Index("ix_hermes_answers_ended_at", answers.c.ended_at)


class Target(TypedDict):
    """The parameters that name a session in every statement.

    They are no columns' names, which SQLAlchemy reserves for what an UPDATE sets.
    """

    of_session: str
    of_owner: str


OF_OWNER: BindParameter[str] = bindparam("of_owner", type_=sessions.c.owner.type)
OF_SESSION: BindParameter[str] = bindparam("of_session", type_=sessions.c.id.type)


def in_session(table: Table) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that a row of another table belongs to the session."""
    return table.c.owner == OF_OWNER, table.c.session_id == OF_SESSION


# Conditions for the WHERE clause.
IS_SESSION = (sessions.c.owner == OF_OWNER, sessions.c.id == OF_SESSION)
IN_SESSION = in_session(messages)
IN_ARCHIVE = in_session(archive)
# A row without a turn was made for a lease, and a deleted one keeps its id from being used again.
IS_STORED = (sessions.c.turns > 0, sessions.c.deleted_at.is_(None))
