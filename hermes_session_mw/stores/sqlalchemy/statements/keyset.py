"""Keyset pagination over owner and id, ids with a prefix, and statements about one owner or all."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, and_, bindparam, or_, tuple_

from hermes_session_mw.database.dialects import MYSQL, SUPPORTED_DIALECTS
from hermes_session_mw.stores.models import MAX_KEY_LENGTH
from hermes_session_mw.stores.sqlalchemy.schema.tables import sessions

_LAST = "\U0010ffff"
START = ("", "")
"""The position before the first session: an owner and an id."""


def is_after(dialect: str, owner: Column[Any], name: Column[Any]) -> ColumnElement[bool]:
    """Return the condition that a row comes after ``:after_owner`` and ``:after_id``."""
    last_owner, last = _bound("after_owner", "after_id")
    if dialect in MYSQL:  # which reads a whole index for a comparison of tuples
        return or_(owner > last_owner, and_(owner == last_owner, name > last))
    return tuple_(owner, name) > tuple_(last_owner, last)


def is_up_to(dialect: str, owner: Column[Any], name: Column[Any]) -> ColumnElement[bool]:
    """Return the condition that a row does not come after ``:to_owner`` and ``:to_id``."""
    last_owner, last = _bound("to_owner", "to_id")
    if dialect in MYSQL:
        return or_(owner < last_owner, and_(owner == last_owner, name <= last))
    return tuple_(owner, name) <= tuple_(last_owner, last)


def position(prefix: str, key: Sequence[str]) -> dict[str, str]:
    """Return the parameters for a position; ``prefix`` is "after" or "to"."""
    return {f"{prefix}_owner": key[0], f"{prefix}_id": key[1]}


HAS_PREFIX = (
    sessions.c.id >= bindparam("prefix", type_=sessions.c.id.type),
    sessions.c.id < bindparam("prefix_end", type_=sessions.c.id.type),
)
"""The conditions that a session's id begins with a prefix: a range of its index.

As every database compares ids byte for byte, in UTF-8 those come in the order of code points.
"""


def prefix_range(prefix: str) -> dict[str, str]:
    """Return the parameters of `HAS_PREFIX`: the prefix, and the least text that follows all."""
    start = prefix.rstrip(_LAST)
    # No id is as long as this.
    end = start[:-1] + _next(start[-1]) if start else _LAST * (MAX_KEY_LENGTH["session_id"] + 1)
    return {"prefix": prefix, "prefix_end": end}


def _next(char: str) -> str:
    after = chr(ord(char) + 1)
    return "\ue000" if after == "\ud800" else after  # surrogates are no characters


def ranged(
    statement: Select[Any], owner: Column[Any], name: Column[Any]
) -> dict[tuple[str, bool], Select[Any]]:
    """Return the query about what comes after a position, for each dialect.

    One has an upper end, and one has none.
    """
    forms = {}
    for dialect in SUPPORTED_DIALECTS:
        after = statement.where(is_after(dialect, owner, name))
        forms[dialect, False] = after
        forms[dialect, True] = after.where(is_up_to(dialect, owner, name))
    return forms


def of_all_or_one(statement: Any, owner: Column[str]) -> dict[bool, Any]:
    """Return the statement about all owners, and about the one that is bound."""
    return {False: statement, True: statement.where(owner == bindparam("owner"))}


def owner_parameter(owner: str | None) -> dict[str, str]:
    """Return the parameter of a statement about one owner, none for all owners."""
    return {} if owner is None else {"owner": owner}


def _bound(owner: str, name: str) -> tuple[Any, Any]:
    return (
        bindparam(owner, type_=sessions.c.owner.type),
        bindparam(name, type_=sessions.c.id.type),
    )
