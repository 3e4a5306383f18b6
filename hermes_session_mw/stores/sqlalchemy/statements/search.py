"""The SQL that finds messages by their words, each owner's by itself.

An index is asked for the owner's key and the words together, so that other owners' messages cost
nothing; and each row's owner is compared too. Matches come with the newest first, a window of them
at a time. Those with all words as a whole come before those with parts of words.

Every value is a parameter, also what the indexes' own languages make of a query: those texts are of
words alone, in which no character has a meaning there.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Executable, Text, and_, bindparam, select, text

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.messages import Message, decode_messages
from hermes_session_mw.stores.search_text import RANKED, Query, Term, key_of, key_word, wanted_in
from hermes_session_mw.stores.sqlalchemy.schema.search_tables import WORDS, entries, queue
from hermes_session_mw.stores.sqlalchemy.schema.tables import OF_OWNER, messages, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of, now
from hermes_session_mw.stores.sqlalchemy.statements.search_index import (
    among,
    mysql_key,
    mysql_word,
    places_of,
    readable,
)

MOST_NOTED = 1000
"""Noted messages of an owner that are searched as they are; with more, they are indexed first."""

MOST_CHARACTERS = 1_000_000
"""Characters of their JSON texts, likewise."""

SCANNED = 10_000
"""Messages of an owner in which one window looks for parts of words."""


class Filters(NamedTuple):
    """What a search is restricted to; ``since`` and ``until`` are in microseconds from 1970."""

    owner: str
    session_id: str | None
    role: str | None
    since: int
    until: int


class Match(NamedTuple):
    """A message that has the words; ``number`` is None for one that is not indexed yet."""

    number: int | None
    session_id: str
    seq: int
    moment: int
    words: str


class Shown(NamedTuple):
    """What a hit tells of its message."""

    message: Message
    turn_id: str
    moment: int
    place: int
    title: str | None


class NotedMessage(NamedTuple):
    """A message that is not indexed yet."""

    session_id: str
    seq: int
    moment: int
    message: Message


_noted = (
    select(queue.c.session_id, queue.c.seq, microseconds_of(messages.c.created_at), messages.c.body)
    .join(
        messages,
        and_(
            messages.c.owner == queue.c.owner,
            messages.c.session_id == queue.c.session_id,
            messages.c.seq == queue.c.seq,
        ),
    )
    .where(queue.c.owner == OF_OWNER)
    .order_by(queue.c.session_id, queue.c.seq)
    .limit(MOST_NOTED)
)
_FLOOR = (
    select(entries.c.id)
    .where(entries.c.owner == OF_OWNER, entries.c.id < bindparam("above", type_=BigInteger()))
    .order_by(entries.c.id.desc())
    .limit(1)
    .offset(SCANNED)
)
_NOW = select(microseconds_of(now()))


def time_now(database: Database) -> int:
    """Return the database's time, in microseconds from 1970."""
    ((moment,),) = database.rows(_NOW, {})
    return int(moment)


def noted_of(
    database: Database, owner: str, *, takes_all: bool = False
) -> list[NotedMessage] | None:
    """Return the owner's messages that are noted and not indexed yet, `MOST_NOTED` at most.

    None if they are so many, or so long, that they are to be indexed first, unless ``takes_all``.
    """
    rows = database.rows(_noted, {"of_owner": owner})
    characters = sum(len(row[3]) for row in rows)
    if not takes_all and (len(rows) >= MOST_NOTED or characters > MOST_CHARACTERS):
        return None
    return [
        NotedMessage(text_of(session_id), int(seq), int(moment), readable(body))
        for session_id, seq, moment, body in rows
    ]


def floor_of(database: Database, owner: str, above: int) -> int | None:
    """Return the number that parts of words are looked for down to, in one window.

    None if the owner has no more than `SCANNED` messages with a number below ``above``.
    """
    rows = database.rows(_FLOOR, {"of_owner": owner, "above": above})
    return int(rows[0][0]) if rows else None


def find_matches(
    database: Database,
    query: Query,
    filters: Filters,
    *,
    parts: bool,
    above: int,
    lowest: int,
    most: int,
) -> list[Match]:
    """Return the ``most`` newest messages that match, numbered from ``lowest`` to below ``above``.

    With ``parts``, those that match by a part of a word, and not by whole words.
    """
    dialect = "mysql" if database.dialect in MYSQL else database.dialect
    wanted = [each.part for each in query if each.part is not None] if parts else []
    whole = [each for each in query if each.part is None or not parts]
    parameters: dict[str, Any] = {
        "of_owner": filters.owner,
        "of_session": filters.session_id or "",
        "of_role": filters.role or "",
        "since": filters.since,
        "until": filters.until,
        "above": above,
        "lowest": lowest,
        "most": most,
    }
    for number, part in enumerate(wanted):
        parameters |= {f"part{number}": part, f"around{number}": f" {part} "}
    for number, each in enumerate(whole):
        parameters[f"whole{number}"] = wanted_in(each)
    if whole:
        parameters["match"] = _EXPRESSIONS[dialect](filters, whole)
    shape = _Shape(
        dialect, filters.session_id is not None, filters.role is not None, len(wanted), len(whole)
    )
    rows = database.rows(_statement(shape), parameters)
    return [
        Match(int(number), text_of(session_id), int(seq), int(moment), words)
        for number, session_id, seq, moment, words in rows
    ]


class _Shape(NamedTuple):
    """What a statement depends on, beside its parameters."""

    dialect: str
    has_session: bool
    has_role: bool
    parts: int
    whole: int


@cache
def _statement(shape: _Shape) -> Executable:
    uses_fts5 = shape.dialect == "sqlite" and shape.whole > 0
    source, number = (
        (f"{WORDS} AS f JOIN hermes_search AS e ON e.id = f.rowid", "f.rowid")
        if uses_fts5
        else ("hermes_search AS e", "e.id")
    )
    conditions = [
        f"{number} < :above",
        f"{number} >= :lowest",
        "e.owner = :of_owner",
        "e.moment >= :since",
        "e.moment <= :until",
    ]
    if shape.whole:
        conditions.append(_CONDITION[shape.dialect])
    if shape.has_session:
        conditions.append("e.session_id = :of_session")
    if shape.has_role:
        conditions.append("e.role = :of_role")
    inside, around = _INSIDE[shape.dialect], _PADDED[shape.dialect]
    conditions += [inside.format("e.words", f":part{each}") for each in range(shape.parts)]
    if shape.dialect == "mysql":  # its index has long words cut, and no phrase's last beginning
        conditions += [inside.format(around, f":whole{each}") for each in range(shape.whole)]
    if shape.parts:
        known = (inside.format(around, f":around{each}") for each in range(shape.parts))
        conditions.append(f"NOT ({' AND '.join(known)})")
    sql = (
        f"SELECT {number}, e.session_id, e.seq, e.moment, substr(e.words, 1, {RANKED})"  # noqa: S608  # names of our own
        f" FROM {source} WHERE {' AND '.join(conditions)} ORDER BY {number} DESC LIMIT :most"
    )
    return text(sql).bindparams(*_bound(sql))


def _bound(sql: str) -> list[Any]:
    types: dict[str, Any] = {
        "of_owner": sessions.c.owner.type,
        "of_session": sessions.c.id.type,
        "of_role": entries.c.role.type,
        **dict.fromkeys(("since", "until", "above", "lowest", "most"), BigInteger()),
        "match": Text(),
    }
    return [bindparam(name, type_=type_) for name, type_ in types.items() if f":{name}" in sql]


_CONDITION = {
    "sqlite": f"f.{WORDS} MATCH :match",
    "postgresql": "e.indexed @@ CAST(:match AS tsquery)",
    "mysql": "MATCH (e.indexed) AGAINST (:match IN BOOLEAN MODE)",
}
_PADDED = {
    "sqlite": "' ' || e.words || ' '",
    "postgresql": "' ' || e.words || ' '",
    "mysql": "concat(' ', e.words, ' ')",
}
_INSIDE = {
    "sqlite": "instr({0}, {1}) > 0",
    "postgresql": "position({1} in {0}) > 0",
    "mysql": "locate({1}, {0}) > 0",
}


def _keys_of(filters: Filters) -> list[int]:
    keys = [key_of("o", filters.owner)]
    if filters.session_id is not None:
        keys.append(key_of("s", filters.session_id))
    if filters.role is not None:
        keys.append(key_of("r", filters.role))
    return keys


def _fts5(filters: Filters, query: Sequence[Term]) -> str:
    keys = " AND ".join(f'"{key_word(each)}"' for each in _keys_of(filters))
    words = " AND ".join(f'"{" ".join(each.words)}"' + " *" * each.is_prefix for each in query)
    return f"indexed : ({keys}) AND words : ({words})"


def _tsquery(filters: Filters, query: Sequence[Term]) -> str:
    terms = [f"'{key_word(each)}'" for each in _keys_of(filters)]
    for each in query:
        words = [f"'{word}'" for word in each.words]
        terms.append("(" + " <-> ".join(words) + ":*" * each.is_prefix + ")")
    return " & ".join(terms)


_MAX_PHRASE = 100  # words of a phrase; MariaDB takes 128, and `find_matches` compares them all


def _boolean(filters: Filters, query: Sequence[Term]) -> str:
    terms = [f"+{mysql_key(each)}" for each in _keys_of(filters)]
    for each in query:
        words = [mysql_word(word) for word in each.words]
        if len(words) == 1:
            terms.append(f"+{words[0]}" + "*" * each.is_prefix)
        else:
            phrase = words[: -1 if each.is_prefix else None][:_MAX_PHRASE]
            terms.append('+"' + " ".join(phrase) + '"')
    return " ".join(terms)


_EXPRESSIONS: dict[str, Callable[[Filters, Sequence[Term]], str]] = {
    "sqlite": _fts5,
    "postgresql": _tsquery,
    "mysql": _boolean,
}

_shown = (
    select(
        messages.c.session_id,
        messages.c.seq,
        messages.c.body,
        messages.c.turn_id,
        microseconds_of(messages.c.created_at),
        messages.c.seq - sessions.c.first_seq,
        sessions.c.title,
    )
    .join(
        sessions,
        and_(sessions.c.owner == messages.c.owner, sessions.c.id == messages.c.session_id),
    )
)  # fmt: skip
_SHOWN = {size: _shown.where(among(messages, size)) for size in (1, 10, 100)}


def show(
    database: Database, owner: str, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Shown]:
    """Return the messages with these numbers, up to 100; those that are gone are left out."""
    if not places:
        return {}
    size, parameters = places_of([(owner, *each) for each in places])
    rows = database.rows(_SHOWN[size], parameters)
    read = decode_messages([row[2] for row in rows])
    return {
        (text_of(row[0]), int(row[1])): Shown(
            message, text_of(row[3]), int(row[4]), int(row[5]), row[6]
        )
        for row, message in zip(rows, read, strict=True)
    }
