"""What is stored of conversations: the columns of each table that have content.

It is said here once more than in ``statements``, for what works on rows whatever they were stored
by: copies that are encrypted anew, and the command's changes of all that is stored.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Executable,
    LargeBinary,
    Select,
    Table,
    and_,
    bindparam,
    false,
    func,
    literal,
    or_,
    select,
    update,
)

from hermes_session_mw.database.connection import text_of
from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS
from hermes_session_mw.messages import ENCRYPTED
from hermes_session_mw.stores.encryption import SEALED_BYTES
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    OF_OWNER,
    OF_SESSION,
    answer_events,
    answers,
    archive,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content
from hermes_session_mw.stores.sqlalchemy.statements.keyset import is_after

SESSIONS = 500
"""Sessions that one statement finds."""


class StoredContent:
    """A table, the key of its rows within a session, and their content.

    ``key`` and the numbers of ``contents`` are names of columns.

    Attributes:
        columns: the names of what `find` returns.
        find: the rows of a session.
        replace: sets a row's content, by ``of_`` its key's names and ``new_`` the columns' names.
    """

    def __init__(self, table: Table, key: Sequence[str], *contents: Content) -> None:
        self.table = table
        self.contents: Sequence[Content] = contents
        self._key = key
        self._session: Any = table.c.get("id" if table is sessions else "session_id")
        self._source: Any = table
        self._in_session: list[Any] = [table.c.owner == OF_OWNER]
        if table is answer_events:
            self._session = answers.c.session_id
            self._source = table.join(
                answers, and_(answers.c.owner == table.c.owner, answers.c.id == table.c.answer_id)
            )
        self._in_session.append(self._session == OF_SESSION)
        numbers = (name for each in contents for name in each.by)
        self.columns: list[str] = list(
            dict.fromkeys([*key, *numbers, *(str(each.at) for each in contents)])
        )
        self.find: Select[Any] = (
            select(*(table.c[name] for name in self.columns))
            .select_from(self._source)
            .where(*self._in_session)
        )
        own = [*self._in_session[:1]] if table is answer_events else self._in_session
        of_key = (
            table.c[name] == bindparam(f"of_{name}", type_=table.c[name].type) for name in key
        )
        # A time stays what it is: MySQL may set the first of a table to the current one.
        times = {each: each for each in table.columns if isinstance(each.type, DateTime)}
        new: dict[Any, Any] = {
            table.c[str(each.at)]: bindparam(f"new_{each.at}", type_=table.c[str(each.at)].type)
            for each in contents
        }
        self.replace: Executable = update(table).where(*own, *of_key).values({**new, **times})
        self.pending: Callable[..., Select[Any]] = cache(self._make_pending)
        self.count: Callable[..., Select[Any]] = cache(self._make_count)
        self.batch: Callable[..., Select[Any]] = cache(self._make_batch)

    def row_of(self, row: Sequence[Any]) -> dict[str, Any]:
        """Return a row of `find` by the names of its columns."""
        return {
            name: text_of(value) if isinstance(value, bytes) and name in self._key else value
            for name, value in zip(self.columns, row, strict=True)
        }

    def parameters(self, row: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of `replace` for a row and its new content."""
        return {
            **{f"of_{name}": row[name] for name in self._key},
            **{f"new_{each.at}": new[each.at] for each in self.contents},
        }

    def _has(self, *, sealed: bool) -> ColumnElement[bool]:
        """Return the condition that a row has content that is encrypted, or some that is not."""
        conditions: list[ColumnElement[bool]] = [false()]
        for each in self.contents:
            column = self.table.c[str(each.at)]
            if isinstance(column.type, LargeBinary):
                begins = func.substr(column, 1, len(SEALED_BYTES)) == literal(
                    SEALED_BYTES, LargeBinary()
                )
            else:
                # Not LIKE, which takes "$H1$" for the same on SQLite.
                begins = func.substr(column, 1, len(ENCRYPTED)) == ENCRYPTED
            conditions.append(begins if sealed else and_(column.is_not(None), ~begins))
        return or_(*conditions)

    def _make_count(self, *, sealed: bool) -> Select[Any]:
        return select(func.count()).select_from(self._source).where(self._has(sealed=sealed))

    def _make_pending(self, dialect: str, *, sealed: bool) -> Select[Any]:
        """Return the statement that finds the next sessions with such rows."""
        assert dialect in SUPPORTED_DIALECTS
        owner = self.table.c.owner
        return (
            select(owner, self._session)
            .select_from(self._source)
            .where(self._has(sealed=sealed), is_after(dialect, owner, self._session))
            .distinct()
            .order_by(owner, self._session)
            .limit(SESSIONS)
        )

    def _make_batch(self, *, sealed: bool) -> Select[Any]:
        return self.find.where(self._has(sealed=sealed)).limit(bindparam("most"))


MESSAGES = StoredContent(messages, ("seq",), Content("body", "message", ("seq",)))

OF_EVERY_STORE: Sequence[StoredContent] = (
    StoredContent(sessions, (), Content("title", "title"), Content("metadata", "metadata")),
    MESSAGES,
    StoredContent(archive, ("number",), Content("body", "message", ("seq",))),
    StoredContent(
        answers,
        ("id",),
        Content("question", "question", ("id",)),
        Content("begun", "begun", ("id",)),
        Content("message", "answer", ("id",)),
    ),
    StoredContent(
        answer_events,
        ("answer_id", "first"),
        Content("body", "events", ("answer_id", "first")),
        Content("growth", "growth", ("answer_id", "first")),
    ),
)
"""What has content in the tables that every store has."""


@cache
def of_checkpoints() -> Sequence[StoredContent]:
    """Return what has content in the tables of checkpoints, which few stores have."""
    from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import (  # noqa: PLC0415
        checkpoint_writes,
        checkpoints,
    )

    place = ("place", "checkpoint_id")
    task = (*place, "task_id", "number")
    return (
        StoredContent(checkpoint_writes, task, Content("body", "write", task)),
        StoredContent(
            checkpoints,
            place,
            Content("body", "checkpoint", place),
            Content("metadata", "checkpoint metadata", place),
        ),
    )
