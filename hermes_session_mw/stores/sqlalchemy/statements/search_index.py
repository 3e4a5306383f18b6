"""The SQL that indexes noted messages, and that notes those which are older than the index.

Messages are noted by triggers (`schema.search_tables`), in the transaction that stores them, and
indexed in batches: an index takes many at once for much less than one at a time. One process at a
time does it, so that numbers rise; a batch locks its noted rows, so that who removes such a message
meanwhile comes before it or after it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Executable,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import postgresql

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import StoreError
from hermes_session_mw.messages import Message, decode_messages
from hermes_session_mw.stores.search import SearchOptions
from hermes_session_mw.stores.search_text import joined_words, key_of, key_word, searchable_text
from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (
    MAX_ROLE,
    WORDS,
    entries,
    queue,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import OF_OWNER, messages, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of

BATCH = 1000
"""Messages that are indexed in one transaction."""

_MOST_CHARACTERS = 4_000_000  # of a batch, which is cut there

_SAME_MESSAGE = and_(
    messages.c.owner == queue.c.owner,
    messages.c.session_id == queue.c.session_id,
    messages.c.seq == queue.c.seq,
)
_place = (queue.c.owner, queue.c.session_id, queue.c.seq)
_noted = (
    select(*_place, messages.c.body, microseconds_of(messages.c.created_at), queue.c.is_old)
    .join(messages, _SAME_MESSAGE)
    .order_by(*_place)
    .limit(bindparam("most", type_=BigInteger()))
)
_NOTED = {
    "sqlite": _noted,
    "postgresql": _noted.with_for_update(of=queue, skip_locked=True),
    **dict.fromkeys(MYSQL, _noted.with_for_update()),
}
_LIMITS = select(func.min(entries.c.id), func.max(entries.c.id))
_INSERT = {
    "sqlite": insert(entries),
    "postgresql": insert(entries).values(
        {each.name: bindparam(each.name) for each in entries.c if each.name != "indexed"}
        | {"indexed": text("CAST(:indexed AS tsvector)")}
    ),
    **dict.fromkeys(MYSQL, insert(entries)),
}
# One statement for all rows of a batch, which are beyond the numbers that were there.
_INSERT_WORDS = text(
    f"INSERT INTO {WORDS} (rowid, indexed, words) SELECT id, indexed, words FROM hermes_search"  # noqa: S608  # names of our own
    " WHERE id < :least OR id > :greatest"
).bindparams(bindparam("least", type_=BigInteger()), bindparam("greatest", type_=BigInteger()))
_SIZES = (1, 10, 100)

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(7526466502349060)")
_LOCK_NAME = "concat('hermes_search.', md5(database()))"
_TRY_LOCK_MYSQL = text(f"SELECT GET_LOCK({_LOCK_NAME}, 0)")
_UNLOCK_MYSQL = text(f"SELECT RELEASE_LOCK({_LOCK_NAME})")
# Without gap locks, on which appends would wait.
_ISOLATION = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

_COUNT_NOTED = select(func.count()).select_from(queue)


def readable(body: str) -> Message:
    """Return a message; one without a text if it cannot be read, so that all others are found."""
    try:
        (message,) = decode_messages([body])
    except StoreError:
        return {}
    return message


def stored_role(role: str) -> str:
    """Return a role as it is kept beside the words."""
    return role[:MAX_ROLE].replace("\0", "")


class Noted(NamedTuple):
    """A message that is not indexed yet."""

    owner: str
    session_id: str
    seq: int
    body: str
    moment: int
    is_old: int


def count_noted(database: Database) -> int:
    """Return how many messages are noted and not indexed yet."""
    ((count,),) = database.rows(_COUNT_NOTED, {})
    return int(count)


def index_batch(database: Database, options: SearchOptions, most: int = BATCH) -> int | None:
    """Index up to ``most`` noted messages; return how many, None if another process does it."""
    with _alone(database) as is_alone:
        if not is_alone:
            return None
        if database.dialect in MYSQL:
            database.command(_ISOLATION)
        with transaction(database):
            if database.dialect == "postgresql" and not database.rows(_TRY_LOCK, {})[0][0]:
                return None
            found, is_all = _read(database, most)
            if found:
                _forget(database, found, is_all=is_all)
                _insert(database, found, options)
    return len(found)


@contextmanager
def _alone(database: Database) -> Iterator[bool]:
    """Hold MySQL's lock, which is the connection's; the others' is the transaction's."""
    if database.dialect not in MYSQL:
        yield True
        return
    ((got,),) = database.rows(_TRY_LOCK_MYSQL, {})
    try:
        yield got == 1
    finally:
        if got == 1 and not database.connection.invalidated:
            database.rows(_UNLOCK_MYSQL, {})


def _read(database: Database, most: int) -> tuple[list[Noted], bool]:
    """Return noted messages, and whether they are all that are noted."""
    rows = database.rows(_NOTED[database.dialect], {"most": most})
    found: list[Noted] = []
    size = 0
    for owner, session_id, seq, body, moment, is_old in rows:
        size += len(body)
        if found and size > _MOST_CHARACTERS:
            break
        found.append(Noted(text_of(owner), text_of(session_id), seq, body, int(moment), is_old))
    return found, len(found) == len(rows) < most


def _insert(database: Database, found: Sequence[Noted], options: SearchOptions) -> None:
    ((least, greatest),) = database.rows(_LIMITS, {})
    below, above = min(least or 0, 0), max(greatest or 0, 0)
    known = {"least": below, "greatest": above}
    rows = []
    # The newest of old messages gets the greatest of the numbers that are left below.
    ordered = sorted(found, key=lambda each: (each.moment, each.session_id, each.seq))
    numbers: list[tuple[Noted, int]] = []
    for each in reversed([one for one in ordered if one.is_old]):
        below -= 1
        numbers.append((each, below))
    for each in (one for one in ordered if not one.is_old):
        above += 1
        numbers.append((each, above))
    for each, number in numbers:
        rows.append(_row(database.dialect, each, number, options))
    if rows:
        database.run(_INSERT[database.dialect], *rows)
        if database.dialect == "sqlite":
            database.run(_INSERT_WORDS, known)


def _row(dialect: str, noted: Noted, number: int, options: SearchOptions) -> dict[str, Any]:
    role, content = searchable_text(readable(noted.body), options)
    role = stored_role(role)
    words = joined_words(content)
    keys = [key_of("o", noted.owner), key_of("s", noted.session_id), key_of("r", role)]
    return {
        "id": number,
        "owner": noted.owner,
        "session_id": noted.session_id,
        "seq": noted.seq,
        "role": role,
        "moment": noted.moment,
        "words": words,
        "indexed": _INDEXED[dialect](keys, words),
    }


def _keys_alone(keys: Sequence[int], _words: str) -> str:
    return " ".join(map(key_word, keys))


def _vector(keys: Sequence[int], words: str) -> str:
    """Return PostgreSQL's text of a tsvector: each word, and where it is."""
    places: dict[str, list[int]] = {}
    for number, word in enumerate(words.split(), 1):
        places.setdefault(word, []).append(number)
    # No word has a quotation mark or a backslash.
    found = [f"'{word}':{','.join(map(str, at[:_MAX_PLACES]))}" for word, at in places.items()]
    return " ".join([*(f"'{key_word(key)}'" for key in keys), *found])


_MAX_PLACES = 255  # PostgreSQL's


def mysql_key(key: int) -> str:
    """Return what stands for a key in a FULLTEXT index."""
    return f"zk{key:011x}"


def mysql_word(word: str) -> str:
    """Return what stands for a word in a FULLTEXT index, which leaves out short ones and others.

    It is of ASCII, as the server's parser may find an end in other words.
    """
    if word.isascii():
        return f"zz{word}"
    return f"zx{word.encode()[:_MAX_BYTES].hex()}"


_MAX_BYTES = 40  # 84 characters are indexed


def _mysql(keys: Sequence[int], words: str) -> str:
    return " ".join([*map(mysql_key, keys), *map(mysql_word, words.split())])


_INDEXED = {
    "sqlite": _keys_alone,
    "postgresql": _vector,
    **dict.fromkeys(MYSQL, _mysql),
}


def _forget(database: Database, found: Sequence[Noted], *, is_all: bool) -> None:
    """Take messages out of the queue; ``is_all``: there are no others, where nobody else writes."""
    if database.dialect == "sqlite":
        if is_all:
            database.run(_FORGET_ALL, {})
            return
        database.run(_FORGET["sqlite"], *({
            "owner": each.owner, "session_id": each.session_id, "seq": each.seq
        } for each in found))  # fmt: skip
    elif database.dialect == "postgresql":
        owners, ids, numbers = zip(*(each[:3] for each in found), strict=True)
        arrays = {"owners": list(owners), "ids": list(ids), "numbers": list(numbers)}
        database.run(_FORGET["postgresql"], arrays)
    else:
        for start in range(0, len(found), _SIZES[-1]):
            size, parameters = places_of([each[:3] for each in found[start : start + _SIZES[-1]]])
            database.run(_FORGET_SIZED[size], parameters)


def places_of(keys: Sequence[tuple[str, str, int]]) -> tuple[int, dict[str, Any]]:
    """Return how many places a statement has for up to 100 keys, and its parameters."""
    size = next(each for each in _SIZES if each >= len(keys))
    parameters: dict[str, Any] = {}
    for number, (owner, session_id, seq) in enumerate([*keys, *[keys[-1]] * (size - len(keys))]):
        parameters |= {f"o{number}": owner, f"s{number}": session_id, f"q{number}": seq}
    return size, parameters


def among(table: Any, size: int) -> Any:
    """Return the condition that a row is that of a message in one of ``size`` places."""
    return or_(
        *(
            and_(
                table.c.owner == bindparam(f"o{number}", type_=sessions.c.owner.type),
                table.c.session_id == bindparam(f"s{number}", type_=sessions.c.id.type),
                table.c.seq == bindparam(f"q{number}", type_=BigInteger()),
            )
            for number in range(size)
        )
    )


_arrays = func.unnest(
    bindparam("owners", type_=postgresql.ARRAY(Text)),
    bindparam("ids", type_=postgresql.ARRAY(Text)),
    bindparam("numbers", type_=postgresql.ARRAY(BigInteger)),
).table_valued("owner", "session_id", "seq").render_derived("given")  # fmt: skip
_FORGET: dict[str, Executable] = {
    "sqlite": delete(queue).where(
        queue.c.owner == bindparam("owner", type_=queue.c.owner.type),
        queue.c.session_id == bindparam("session_id", type_=queue.c.session_id.type),
        queue.c.seq == bindparam("seq", type_=BigInteger()),
    ),
    "postgresql": delete(queue).where(
        tuple_(*_place).in_(select(_arrays.c.owner, _arrays.c.session_id, _arrays.c.seq))
    ),
}
_FORGET_ALL = delete(queue)
_FORGET_SIZED = {size: delete(queue).where(among(queue, size)) for size in _SIZES}

# What follows notes messages that were stored before the triggers were there.

_sessions_of = (
    select(sessions.c.id)
    .where(sessions.c.owner == OF_OWNER, sessions.c.deleted_at.is_(None), sessions.c.turns > 0)
    .order_by(sessions.c.updated_at.desc(), sessions.c.id)
)
_NEXT_OWNER = select(func.min(sessions.c.owner)).where(
    sessions.c.owner > bindparam("after", type_=sessions.c.owner.type)
)
_FIRST_OWNER = select(func.min(sessions.c.owner))
_OF_SESSION = bindparam("of_session", type_=sessions.c.id.type)
_is_known = [
    select(table.c.seq)
    .where(
        table.c.owner == messages.c.owner,
        table.c.session_id == messages.c.session_id,
        table.c.seq == messages.c.seq,
    )
    .correlate(messages)
    .exists()
    for table in (queue, entries)
]
_unknown = select(messages.c.owner, messages.c.session_id, messages.c.seq, text("1")).where(
    messages.c.owner == OF_OWNER,
    messages.c.session_id == _OF_SESSION,
    *(~each for each in _is_known),
)
_NOTE_OLD = insert(queue).from_select(["owner", "session_id", "seq", "is_old"], _unknown)
_COUNT_UNKNOWN = select(func.count()).select_from(_unknown.subquery())
_message_of = (
    select(messages.c.seq)
    .where(
        messages.c.owner == entries.c.owner,
        messages.c.session_id == entries.c.session_id,
        messages.c.seq == entries.c.seq,
    )
    .correlate(entries)
    .exists()
)
_STRAYS = [
    select(func.count()).select_from(table).where(~_exists)
    for table, _exists in (
        (entries, _message_of),
        (
            queue,
            select(messages.c.seq).where(_SAME_MESSAGE).correlate(queue).exists(),
        ),
    )
]
_DROP_STRAYS = [
    delete(entries).where(~_message_of),
    delete(queue).where(~select(messages.c.seq).where(_SAME_MESSAGE).correlate(queue).exists()),
]


def next_owner(database: Database, after: str | None) -> str | None:
    """Return the next owner that has a session, "" being the first; None after the last."""
    statement = _FIRST_OWNER if after is None else _NEXT_OWNER
    ((owner,),) = database.rows(statement, {} if after is None else {"after": after})
    return None if owner is None else text_of(owner)


def sessions_of(database: Database, owner: str) -> list[str]:
    """Return the ids of the owner's sessions, the most recently changed first."""
    return [text_of(id_) for (id_,) in database.rows(_sessions_of, {"of_owner": owner})]


def note_old(database: Database, owner: str, session_ids: Sequence[str]) -> int:
    """Note the messages of sessions that neither are noted nor indexed; return how many."""
    noted = 0
    with transaction(database):
        for session_id in session_ids:
            noted += database.run(_NOTE_OLD, {"of_owner": owner, "of_session": session_id})
    return noted


def count_unknown(database: Database, owner: str, session_ids: Sequence[str]) -> int:
    """Return how many messages of sessions neither are noted nor indexed."""
    parameters = ({"of_owner": owner, "of_session": each} for each in session_ids)
    return sum(int(database.rows(_COUNT_UNKNOWN, each)[0][0]) for each in parameters)


def count_strays(database: Database) -> int:
    """Return how many indexed or noted messages are in no history."""
    return sum(int(database.rows(each, {})[0][0]) for each in _STRAYS)


def drop_strays(database: Database) -> int:
    """Take out of the index what is in no history; return how much."""
    with transaction(database):
        return sum(database.run(each, {}) for each in _DROP_STRAYS)
