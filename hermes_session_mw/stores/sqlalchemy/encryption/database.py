"""The `Database` that encrypts content on its way to the database, and decrypts what comes back.

The functions of ``statements`` execute their statements on it as on any other. What is content in
them is said where they are made (``statements/content.py``); a statement of which nothing is said
is executed as it is.

A read returns the wrapped data key beside each row, so that it stays one round trip. A write needs
the data key before: a statement that locks the session's row returns it too, and where none came
before in the transaction, it is read by a statement of its own. The first write to a session makes
its data key, under the lock of the row.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Executable

from hermes_session_mw.database.connection import Database, OutOfTransaction, Parameters, Row
from hermes_session_mw.database.connection import text_of as text_of_key
from hermes_session_mw.logging import fingerprint
from hermes_session_mw.messages import ENCRYPTED
from hermes_session_mw.stores.encryption import (
    DataKey,
    Keyring,
    NotAuthentic,
    UnknownMasterKey,
    refused_plain,
)
from hermes_session_mw.stores.sqlalchemy.encryption.histories import (
    MARK,
    Decrypted,
    DecryptedHistories,
)
from hermes_session_mw.stores.sqlalchemy.encryption.reading import (
    Reading,
    is_sealed,
    joined_reading_of,
    place_of,
    reading_of,
)
from hermes_session_mw.stores.sqlalchemy.encryption.resealing import reseal
from hermes_session_mw.stores.sqlalchemy.encryption.writing import (
    FIND_KEY,
    SET_FIRST_KEY,
    SET_KEY,
    locking_of,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import Target
from hermes_session_mw.stores.sqlalchemy.statements.content import (
    COPIES,
    FORGETS,
    JOINED,
    LOCKS,
    MOVES,
    READ,
    WRITTEN,
    Content,
)
from hermes_session_mw.stores.sqlalchemy.statements.history_texts import SEPARATOR

_Session = tuple[str, str]
"""An owner and a session's id."""


class EncryptingDatabase(Database):
    """Another `Database`, with content encrypted; it lives as long as one work."""

    encrypts: bool = True

    def __init__(
        self, inner: Database, keyring: Keyring, histories: DecryptedHistories | None
    ) -> None:
        self._inner = inner
        self._histories = histories
        self.keyring: Keyring = keyring
        self.connection: Connection = inner.connection
        self.dialect: str = inner.dialect
        self.is_direct: bool = inner.is_direct
        # What the transaction has read under the lock of a session's row: None for no key yet.
        self._wrapped: dict[_Session, str | None] = {}
        self._opened: dict[str, DataKey] = {}

    @property
    def inner(self) -> Database:
        """The database as it is."""
        return self._inner

    # A shared transaction says of the inner one which work runs in it.
    @property
    def is_shared(self) -> bool:  # type: ignore[override]
        """See `Database`."""
        return self._inner.is_shared

    @property
    def savepoint(self) -> str | None:  # type: ignore[override]
        """See `Database`."""
        return self._inner.savepoint

    @property
    def driver_connection(self) -> Any:
        """See `Database.driver_connection`."""
        return self._inner.driver_connection

    def in_transaction(self) -> bool | None:
        """See `Database.in_transaction`."""
        return self._inner.in_transaction()

    def check_no_transaction(self, when: str) -> None:
        """See `Database.check_no_transaction`."""
        self._inner.check_no_transaction(when)

    def out_of_transaction(self, reason: str) -> OutOfTransaction:
        """See `Database.out_of_transaction`."""
        return self._inner.out_of_transaction(reason)

    def command(self, sql: str) -> None:
        """See `Database.command`; what is known of keys is known for one transaction."""
        self._wrapped.clear()
        self._inner.command(sql)

    def commit(self) -> str | None:
        """See `Database.commit`."""
        self._wrapped.clear()
        return self._inner.commit()

    def rollback(self) -> None:
        """See `Database.rollback`."""
        self._wrapped.clear()
        self._inner.rollback()

    def rows(self, statement: Executable, parameters: Parameters) -> Sequence[Row]:
        """See `Database.rows`."""
        if statement in JOINED:
            return self._read_joined(statement, parameters)
        if statement in READ:
            return self._read(statement, parameters)
        if statement in LOCKS:
            return self._lock(statement, parameters)
        if statement in WRITTEN:
            (parameters,) = self._sealed(statement, (parameters,))
        return self._inner.rows(statement, parameters)

    def run(self, statement: Executable, *parameters: Parameters) -> int:
        """See `Database.run`."""
        if statement in COPIES:
            count = self._inner.run(statement, *parameters)
            reseal(self, COPIES[statement], parameters[0])
            return count
        if statement in MOVES:
            return self._move(statement, parameters[0])
        if statement in FORGETS and self._histories is not None:
            self._histories.forget((parameters[0]["of_owner"], parameters[0]["of_session"]))
        if statement in WRITTEN:
            return self._inner.run(statement, *self._sealed(statement, parameters))
        return self._inner.run(statement, *parameters)

    def data_key(self, owner: str, session_id: str) -> DataKey:
        """Return the session's data key, in a transaction that writes; make it if there is none.

        Of a session that has no row nothing can be stored: its key is not kept.
        """
        key = owner, session_id
        target = Target(of_session=session_id, of_owner=owner)
        if key not in self._wrapped:
            rows = self._inner.rows(FIND_KEY, target)
            self._wrapped[key] = rows[0][0] if rows else None
        wrapped = self._wrapped[key]
        if wrapped is not None:
            return self.opened(wrapped, owner, session_id)
        wrapped, made = self.keyring.new_data_key(owner, session_id)
        self._inner.run(SET_FIRST_KEY, {**target, "new_key": wrapped})
        self._wrapped[key] = wrapped
        self._opened[wrapped] = made
        return made

    def opened(self, wrapped: str | None, owner: str, session_id: str) -> DataKey:
        """Return the data key that is stored as ``wrapped``.

        Raises:
            StoreError: as `Keyring.unwrap`.
        """
        if wrapped is None:
            raise self.not_authentic(session_id, "the data key of what is encrypted is missing")
        opened = self._opened.get(wrapped)
        if opened is None:
            try:
                opened = self.keyring.unwrap(wrapped, owner, session_id)
            except NotAuthentic as exc:
                raise self.not_authentic(session_id, str(exc)) from None
            self._opened[wrapped] = opened
        return opened

    @staticmethod
    def not_authentic(session_id: str, problem: str) -> NotAuthentic:
        """Return the error, which names the session as logs do."""
        named = f"session {fingerprint(session_id)}: "
        return NotAuthentic(named + problem.removeprefix(named))

    def _lock(self, statement: Executable, parameters: Parameters) -> Sequence[Row]:
        rows = self._inner.rows(locking_of(statement), parameters)
        key = parameters["of_owner"], parameters["of_session"]
        self._wrapped[key] = rows[0][-1] if rows else None
        return [tuple(row)[:-1] for row in rows]

    def _sealed(
        self, statement: Executable, parameters: Sequence[Parameters]
    ) -> Iterator[Parameters]:
        contents = WRITTEN[statement]
        for row in parameters:
            values = [(each, row[each.at]) for each in contents.values if row[each.at] is not None]
            if not values:
                yield row
                continue
            key = self.data_key(row[contents.owner], row[contents.session])
            sealed = {each.at: key.seal(value, place_of(each, row)) for each, value in values}
            yield {**row, **sealed}

    def _read(self, statement: Executable, parameters: Parameters) -> Sequence[Row]:
        reading = reading_of(statement)
        rows = self._inner.rows(reading.statement, parameters)
        return [self._row(reading.values, tuple(row), reading, parameters) for row in rows]

    def _row(
        self, contents: Sequence[Content], row: Row, reading: Reading, parameters: Parameters
    ) -> Row:
        """Return a row as its statement has it, decrypted."""
        values = list(row[: reading.width])
        for each in contents:
            value = row[each.at]
            if value is None or (each.when and row[each.when[0]] != each.when[1]):
                continue
            if self.keyring.accepts_plain and not is_sealed(value):
                continue
            owner, session_id = (
                text_of_key(row[source] if isinstance(source, int) else parameters[source])
                for source in (reading.owner, reading.session)
            )
            place = place_of(each, row, parameters)
            values[each.at] = self._value(each, value, place, row[-1], owner, session_id)
        return tuple(values)

    def _value(
        self,
        content: Content,
        value: Any,
        place: str,
        wrapped: str | None,
        owner: str,
        session_id: str,
    ) -> Any:
        """Return a value decrypted; None where that is impossible, if it may be lacking."""
        sealed: Any = value if isinstance(value, str) else bytes(value)
        try:
            if not is_sealed(value):
                raise refused_plain()
            return self.opened(wrapped, owner, session_id).open(sealed, place)
        except NotAuthentic as exc:
            if not content.may_lack:
                raise self.not_authentic(session_id, str(exc)) from None
        except UnknownMasterKey as exc:
            if not content.may_lack_key:
                raise
            self.keyring.warn_of(exc)
        return None

    def _read_joined(self, statement: Executable, parameters: Parameters) -> Sequence[Row]:
        (row,) = self._inner.rows(joined_reading_of(statement), parameters)
        count, stored, *others, first, wrapped = row
        if not count:
            return [(count, stored, *others)]
        key = parameters["of_owner"], parameters["of_session"]
        known = None
        if self._histories is not None:
            known = self._histories.find(key, wrapped, first, stored)
        if known is not None and len(known.stored) == len(stored):
            return [(count, known.texts, *others)]
        texts = self._open_joined(key, wrapped, first, stored, known)
        if self._histories is not None and wrapped is not None:
            self._histories.keep(key, Decrypted(wrapped, first, stored, texts))
        return [(count, texts, *others)]

    def _open_joined(
        self, key: _Session, wrapped: str | None, first: int, stored: str, known: Decrypted | None
    ) -> str:
        """Return the messages' JSON texts, of which the first may be ``known``."""
        texts = []
        if known is not None:
            texts.append(known.texts)
            first += known.stored.count(MARK) + 1
            stored = stored[len(known.stored) + len(MARK) :]
        rest = stored.split(MARK)
        if not (self.keyring.accepts_plain or all(map(is_sealed, rest))):
            raise self.not_authentic(key[1], str(refused_plain()))
        if ENCRYPTED not in stored:
            return SEPARATOR.join([*texts, *rest])
        try:
            texts += self.opened(wrapped, *key).open_each(rest, "message", first)
        except NotAuthentic as exc:
            raise self.not_authentic(key[1], str(exc)) from None
        return SEPARATOR.join(texts)

    def _move(self, statement: Executable, parameters: Parameters) -> int:
        """Insert the row that a session moves to, with its data key wrapped anew."""
        count = self._inner.run(statement, parameters)
        if not count:
            return count
        source = parameters["of_owner"], parameters["of_session"]
        target = parameters["new_owner"], parameters["new_id"]
        for (wrapped,) in self._inner.rows(
            FIND_KEY, Target(of_owner=source[0], of_session=source[1])
        ):
            if wrapped is not None:
                self._inner.run(
                    SET_KEY,
                    {
                        **Target(of_owner=target[0], of_session=target[1]),
                        "new_key": self.keyring.rewrap(wrapped, source, target),
                    },
                )
        return count
