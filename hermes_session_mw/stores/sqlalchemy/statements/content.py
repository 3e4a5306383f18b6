"""Says which values of a statement are a conversation's content: what encryption encrypts.

Each module says it of its own statements, where they are made. It costs who does not encrypt a
place in a dict at import. Over a store that encrypts, `stores.sqlalchemy.encryption` executes each
of these statements in a form that returns the session's data key with the content, and nothing
else is different for who executes it.

What is not said here stays plain: ids, times, counts, and what a row is found by.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Executable, Select

S = TypeVar("S", bound=Executable)

Source: TypeAlias = Any
"""Where a value is: a column of the result by its index (int), a parameter by its name (str), or a
column that is to be selected too (ColumnElement)."""


@dataclass(frozen=True, slots=True)
class Content:
    """A value that has content.

    Attributes:
        at: the index of its column in the result, or the name of its parameter.
        kind: what it is.
        by: what it is numbered by among its kind in the session.
        when: a column's index and value; it is content only in rows that have this value there.
        may_lack: whether a value that cannot be decrypted is None, so that other rows are read.
        may_lack_key: whether one is, too, whose master key the store was not given.
    """

    at: Any
    kind: str
    by: tuple[Source, ...] = ()
    when: tuple[int, object] | None = None
    may_lack: bool = False
    may_lack_key: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of a statement's rows or parameters, and whose it is.

    Attributes:
        values: what is content.
        owner, session: whose it is.
        order: the names of columns that order the rows of a UNION.
    """

    values: tuple[Content, ...]
    owner: Source = "of_owner"
    session: Source = "of_session"
    order: tuple[str, ...] = field(default=())

    def shifted(self, count: int) -> "Contents":
        """Return the same for a result with so many columns more at its beginning."""

        def move(source: Any) -> Any:
            return source + count if isinstance(source, int) else source

        values = tuple(
            replace(
                each,
                at=move(each.at),
                by=tuple(map(move, each.by)),
                when=None if each.when is None else (each.when[0] + count, each.when[1]),
            )
            for each in self.values
        )
        return Contents(values, move(self.owner), move(self.session), self.order)


READ: dict[Executable, Contents] = {}
"""The statements that return content."""

WRITTEN: dict[Executable, Contents] = {}
"""The statements that store content, with its parameters' names."""

LOCKS: set[Executable] = set()
"""The statements that lock a session's row, and return it."""

MOVES: set[Executable] = set()
"""The statements that insert the row of a session (``new_owner``, ``new_id``) as another's copy."""

FORGETS: set[Executable] = set()
"""The statements that remove a session's data key."""

COPIES: dict[Executable, str] = {}
"""The statements that copy content to the session ``new_id``, and which."""

Join: TypeAlias = Callable[[Any, Any], Any]
"""Returns the texts of all rows in the order of their numbers, as one value."""

JOINED: dict[Executable, Callable[..., Select[Any]]] = {}
"""The statements that return a session's messages as one text, which is their second column.

Each is made anew by a `Join` and further columns, before which it then has the number of the first
message.
"""


def reads(
    statement: S,
    *values: Content,
    owner: Source = "of_owner",
    session: Source = "of_session",
    order: tuple[str, ...] = (),
) -> S:
    """Say what a statement's rows have, and return the statement."""
    READ[statement] = Contents(values, owner, session, order)
    return statement


def joins(make: Callable[..., Select[Any]], join: Join) -> Select[Any]:
    """Return what ``make`` makes of ``join``, and say that it returns messages as one text."""
    statement = make(join)
    JOINED[statement] = make
    return statement


def writes(
    statement: S, *values: Content, owner: Source = "of_owner", session: Source = "of_session"
) -> S:
    """Say what a statement's parameters have, and return the statement."""
    WRITTEN[statement] = Contents(values, owner, session)
    return statement


def locks(statement: S) -> S:
    """Say that a statement locks the row of the session in its parameters, and return it."""
    LOCKS.add(statement)
    return statement


def moves(statement: S) -> S:
    """Say that a statement inserts the row that another session's content moves to; return it."""
    MOVES.add(statement)
    return statement


def forgets(statement: S) -> S:
    """Say that a statement removes the data key of the session in its parameters; return it."""
    FORGETS.add(statement)
    return statement


def copies(statement: S, what: str) -> S:
    """Say that a statement copies content to another session, and return it."""
    COPIES[statement] = what
    return statement
