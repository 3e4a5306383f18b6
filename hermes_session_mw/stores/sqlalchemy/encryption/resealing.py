"""Encrypts anew what is stored: copies of other sessions' content, and what was stored plain.

Every change of a session's rows is one short transaction, under the lock of the session's row.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import bindparam, select, update

from hermes_session_mw.database.connection import Database, Parameters, text_of
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import StoreCorrupt, StoreMisconfigured
from hermes_session_mw.stores.encryption import refused_plain
from hermes_session_mw.stores.sqlalchemy.encryption.reading import is_sealed, place_of
from hermes_session_mw.stores.sqlalchemy.encryption.stored import (
    MESSAGES,
    OF_EVERY_STORE,
    SESSIONS,
    StoredContent,
    of_checkpoints,
)
from hermes_session_mw.stores.sqlalchemy.encryption.writing import FIND_KEY
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_label_columns
from hermes_session_mw.stores.sqlalchemy.schema.table_presence import checkpoint_tables_exist
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_SESSION, Target, sessions
from hermes_session_mw.stores.sqlalchemy.statements.erase_owner import overwriting
from hermes_session_mw.stores.sqlalchemy.statements.keyset import is_after, position
from hermes_session_mw.stores.sqlalchemy.statements.labels import index_pairs
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import forget_data_key

if TYPE_CHECKING:
    from hermes_session_mw.stores.encryption import DataKey
    from hermes_session_mw.stores.sqlalchemy.encryption.database import EncryptingDatabase

Key = tuple[str, str]
"""An owner and a session's id."""

_wrapped = select(sessions.c.owner, sessions.c.id, sessions.c.data_key).where(
    sessions.c.data_key.is_not(None)
)
_swap = (
    update(sessions)
    .where(*IS_SESSION, sessions.c.data_key == bindparam("old_key"))
    .values(data_key=bindparam("new_key"), updated_at=sessions.c.updated_at)
)


class WrappedKey(NamedTuple):
    """A session's data key as it is stored."""

    owner: str
    session_id: str
    data_key: str


class Unreadable(NamedTuple):
    """A session that was left as it is, and why."""

    owner: str
    session_id: str
    problem: str


def reseal(database: "EncryptingDatabase", what: str, parameters: Parameters) -> None:
    """Encrypt anew what was copied from the session in ``parameters`` to its ``new_id``.

    The database has copied the rows as they are, in one statement. A row is found in its own
    session by the number of the copied one, to which ``first`` of the parameters is added.
    """
    owner, source, target = (parameters[name] for name in ("of_owner", "of_session", "new_id"))
    stored = MESSAGES if what == "messages" else of_checkpoints()[what == "checkpoints"]
    first = parameters.get("first", 0)
    rows = database.inner.rows(stored.find, Target(of_session=target, of_owner=owner))
    if not rows:
        return
    ((wrapped,),) = database.inner.rows(FIND_KEY, Target(of_session=source, of_owner=owner))
    new = database.data_key(owner, target)
    accepts_plain = database.keyring.accepts_plain
    replaced = []
    for found in rows:
        row = stored.row_of(found)
        before = {**row, "seq": row["seq"] + first} if "seq" in row else row
        if not (accepts_plain or all(is_sealed(row[each.at]) for each in stored.contents)):
            raise database.not_authentic(source, str(refused_plain()))
        opened = {
            each.at: database.opened(wrapped, owner, source).open(
                _as_sealed(row[each.at]), place_of(each, before)
            )
            for each in stored.contents
            if is_sealed(row[each.at])
        }
        values = {**row, **opened}
        sealed = {
            each.at: new.seal(values[each.at], place_of(each, row)) for each in stored.contents
        }
        replaced.append({"of_owner": owner, "of_session": target, **stored.parameters(row, sealed)})
    database.inner.run(stored.replace, *replaced)


def stored_contents(database: Database) -> list[StoredContent]:
    """Return what has content in the tables that are there."""
    more = of_checkpoints() if checkpoint_tables_exist(database) else ()
    return [*OF_EVERY_STORE, *more]


def count(database: Database, *, sealed: bool) -> int:
    """Return how many rows have content that is encrypted, or some that is not."""
    return sum(
        int(number)
        for each in stored_contents(database)
        for ((number,),) in [database.rows(each.count(sealed=sealed), {})]
    )


def find(database: Database, stored: StoredContent, after: Key, *, sealed: bool) -> list[Key]:
    """Return the next sessions, by owner and id, that have such rows in a table."""
    statement = stored.pending(database.dialect, sealed=sealed)
    rows = database.rows(statement, position("after", after))
    return [(text_of(owner), text_of(session_id)) for owner, session_id in rows]


def change(database: Database, stored: StoredContent, of: Key, most: int, *, sealed: bool) -> int:
    """Encrypt up to ``most`` rows of a session, or decrypt those that are ``sealed``.

    Return how many; fewer than ``most`` if there are no more, and 0 where the session is gone.
    SQLite overwrites what was there before.
    """
    owner, session_id = of
    target = Target(of_session=session_id, of_owner=owner)
    with nullcontext() if sealed else overwriting(database), transaction(database):
        if not database.rows(FIND_KEY, target):
            return 0
        key = _encrypting(database).data_key(owner, session_id)
        changed = []
        for found in database.rows(stored.batch(sealed=sealed), {**target, "most": most}):
            row = stored.row_of(found)
            new = {**row, **dict(_changed(stored, row, key, sealed=sealed))}
            changed.append({**target, **stored.parameters(row, new)})
        if changed:
            database.run(stored.replace, *changed)
        if changed and stored.table is sessions and has_label_columns(database):
            # What a pair's label is called tells the pair to who guesses it.
            index_pairs(_encrypting(database).inner if sealed else database, target)
    return len(changed)


def drop_key(database: Database, contents: Sequence[StoredContent], of: Key) -> int:
    """Remove the data key of a session that has nothing encrypted any more; return how many."""
    target = Target(of_session=of[1], of_owner=of[0])
    with transaction(database):
        database.rows(FIND_KEY, target)
        for each in contents:
            if database.rows(each.batch(sealed=True), {**target, "most": 1}):
                return 0
        forget_data_key(database, target)
    return 1


def _changed(
    stored: StoredContent, row: Mapping[str, Any], key: "DataKey", *, sealed: bool
) -> Iterator[tuple[str, Any]]:
    for each in stored.contents:
        value = row[each.at]
        if value is None or is_sealed(value) is not sealed:
            continue
        place = place_of(each, row)
        plain = _as_sealed(value)
        yield each.at, key.open(plain, place) if sealed else key.seal(plain, place)


def find_keys(database: Database, after: Key) -> list[WrappedKey]:
    """Return the next sessions, by owner and id, that have a data key."""
    statement = (
        _wrapped.where(is_after(database.dialect, sessions.c.owner, sessions.c.id))
        .order_by(sessions.c.owner, sessions.c.id)
        .limit(SESSIONS)
    )
    rows = database.rows(statement, position("after", after))
    return [WrappedKey(text_of(owner), text_of(id_), key) for owner, id_, key in rows]


def rewrap(database: Database, found: Sequence[WrappedKey]) -> tuple[int, list[Unreadable]]:
    """Wrap data keys by the current master key; return how many, and those that cannot be.

    A key that another has changed since it was found stays as that left it.
    """
    swapped, unreadable = [], []
    keyring = _encrypting(database).keyring
    for each in found:
        place = each.owner, each.session_id
        try:
            new = keyring.rewrap(each.data_key, place, place)
        except (StoreCorrupt, StoreMisconfigured) as exc:
            unreadable.append(Unreadable(*place, str(exc)))
            continue
        target = Target(of_session=each.session_id, of_owner=each.owner)
        swapped.append({**target, "old_key": each.data_key, "new_key": new})
    if not swapped:
        return 0, unreadable
    with transaction(database):
        return sum(database.run(_swap, each) for each in swapped), unreadable


def _encrypting(database: Database) -> "EncryptingDatabase":
    assert database.encrypts
    return cast("EncryptingDatabase", database)


def _as_sealed(value: Any) -> Any:
    return value if isinstance(value, str) else bytes(value)
