"""The SQL of checkpoints.

A write takes the lock of the session's row first, as every other write does: so none is stored
beside a deletion. A missing row is inserted, without a turn, as one that was made for a lease.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    BindParameter,
    Executable,
    Insert,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import MYSQL, upsert
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.exceptions import SessionConflict, SessionDeleted, TurnLost
from hermes_session_mw.messages import ENCRYPTED, decode_messages, needs_keys
from hermes_session_mw.stores.checkpoint_store import (
    Checkpoint,
    CheckpointWrite,
    StoredCheckpoint,
)
from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import (
    checkpoint_writes,
    checkpoints,
    place_of,
    require_tables,
)
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_label_columns
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    OF_OWNER,
    OF_SESSION,
    Target,
    in_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import (
    is_before,
    now,
    now_in_milliseconds,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, copies, reads, writes
from hermes_session_mw.stores.sqlalchemy.statements.labels import touch_labels
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import may_expire
from hermes_session_mw.stores.sqlalchemy.statements.session_row import lock_or_insert_row
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import Key, KeyedRows

_COLUMNS = checkpoints.c
_PLACE = bindparam("of_place", type_=checkpoints.c.place.type)
_ID = bindparam("of_id", type_=checkpoints.c.checkpoint_id.type)
_NEW_ID = bindparam("new_id", type_=sessions.c.id.type)
_NEW_OWNER = bindparam("new_owner", type_=sessions.c.owner.type)


def _parameter(table: Table, name: str) -> BindParameter[Any]:
    return bindparam(f"new_{name}", type_=table.c[name].type)


def _row(table: Table, *names: str) -> dict[str, Any]:
    own = {"owner": OF_OWNER, "session_id": OF_SESSION, "place": _PLACE, "checkpoint_id": _ID}
    return own | {name: _parameter(table, name) for name in names}


_STATE = ("namespace", "parent_id", "run_id", "type", "body", "metadata")
_PUT = upsert(
    checkpoints,
    _row(checkpoints, *_STATE),
    {name: _parameter(checkpoints, name) for name in _STATE},
)
for _each in _PUT.values():
    writes(
        _each,
        Content("new_body", "checkpoint", ("of_place", "of_id")),
        Content("new_metadata", "checkpoint metadata", ("of_place", "of_id")),
    )
_WRITTEN = ("task_path", "channel", "type", "body")
_write = _row(checkpoint_writes, "task_id", "number", *_WRITTEN)
_REPLACE_WRITE = upsert(
    checkpoint_writes, _write, {name: _parameter(checkpoint_writes, name) for name in _WRITTEN}
)
# MySQL's INSERT IGNORE would ignore more than a row that is there.
_IGNORE_WRITE: dict[str, Insert] = {
    **upsert(checkpoint_writes, _write, {"channel": checkpoint_writes.c.channel}),
    "sqlite": sqlite.insert(checkpoint_writes).values(_write).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(checkpoint_writes).values(_write).on_conflict_do_nothing(),
}
for _each in (*_REPLACE_WRITE.values(), *_IGNORE_WRITE.values()):
    writes(
        _each,
        Content("new_body", "write", ("of_place", "of_id", "new_task_id", "new_number")),
    )

_UNTOUCHED = 60_000  # milliseconds

# Inserts or locks the session's row, and says when it was changed: now.
_touch = upsert(
    sessions,
    {"owner": OF_OWNER, "id": OF_SESSION, "next_seq": 0, "turns": 0, "updated_at": now()},
    {"updated_at": now()},
)
# By whether the tables have labels.
_USED: dict[bool, tuple[Any, ...]] = {
    False: (sessions.c.fence, sessions.c.deleted_at),
    True: (sessions.c.fence, sessions.c.deleted_at, sessions.c.has_labels),
}
_USE: dict[tuple[str, bool], Executable] = {
    (dialect, has_labels): each if dialect in MYSQL else each.returning(*columns)
    for dialect, each in _touch.items()
    for has_labels, columns in _USED.items()
}
# On SQLite only once a minute: it writes two pages more than the checkpoint has.
_use_again = (
    update(sessions)
    .where(
        *IS_SESSION,
        is_before(sessions.c.updated_at, (now_in_milliseconds() - _UNTOUCHED) * 1000),
    )
    .values(updated_at=now())
)
_SELECT_USED = {has: select(*columns).where(*IS_SESSION) for has, columns in _USED.items()}

_IS_PLACE = (*in_session(checkpoints), checkpoints.c.place == _PLACE)
_heads = (
    select(_COLUMNS.namespace, func.max(_COLUMNS.checkpoint_id))
    .where(*in_session(checkpoints))
    .group_by(_COLUMNS.place, _COLUMNS.namespace)
)
_count = select(func.count()).select_from(checkpoints).where(*in_session(checkpoints))
_source = select(
    func.count(), func.max(case((_COLUMNS.metadata.like(f"{ENCRYPTED}%"), 1), else_=0))
).where(*in_session(checkpoints))
_of_runs = select(_COLUMNS.session_id, _COLUMNS.place, _COLUMNS.checkpoint_id).where(
    _COLUMNS.owner == OF_OWNER, _COLUMNS.run_id == bindparam("run_id", type_=_COLUMNS.run_id.type)
)
_remove_one = [
    delete(table).where(*in_session(table), table.c.place == _PLACE, table.c.checkpoint_id == _ID)
    for table in (checkpoint_writes, checkpoints)
]
_TABLES = (checkpoint_writes, checkpoints)
_KEYED = [KeyedRows(table, "session_id") for table in _TABLES]
_move = [
    update(table).where(*in_session(table)).values(owner=_NEW_OWNER, session_id=_NEW_ID)
    for table in _TABLES
]


COPIED = ("checkpoint writes", "checkpoints")


def _copy_of(table: Table) -> Executable:
    columns = {column.name: column for column in table.columns} | {"session_id": _NEW_ID}
    chosen = select(*columns.values()).where(*in_session(table))
    return insert(table).from_select([*columns], chosen)


_copy = [copies(_copy_of(table), kind) for table, kind in zip(_TABLES, COPIED, strict=True)]


def _found(*, newest: bool) -> Select[Any]:
    """Return the statement that selects a checkpoint, beside each of its writes."""
    one = select(
        _COLUMNS.checkpoint_id,
        _COLUMNS.parent_id,
        _COLUMNS.run_id,
        _COLUMNS.type,
        _COLUMNS.body,
        _COLUMNS.metadata,
    ).where(*_IS_PLACE)
    if newest:
        one = one.order_by(_COLUMNS.checkpoint_id.desc()).limit(1)
    else:
        one = one.where(_COLUMNS.checkpoint_id == _ID)
    found, written = one.subquery("found"), checkpoint_writes.c
    is_its = and_(
        *in_session(checkpoint_writes),
        written.place == _PLACE,
        written.checkpoint_id == found.c.checkpoint_id,
    )
    return reads(
        select(
            *found.c,
            written.task_id,
            written.number,
            written.channel,
            written.type,
            written.body,
            written.task_path,
        ).select_from(found.outerjoin(checkpoint_writes, is_its)),
        Content(4, "checkpoint", ("of_place", 0)),
        Content(5, "checkpoint metadata", ("of_place", 0)),
        Content(10, "write", ("of_place", 0, 6, 7)),
    )


_FIND = {newest: _found(newest=newest) for newest in (False, True)}


class Append(Protocol):
    """Appends a turn in a transaction that is open: `append_inside`, with its other arguments."""

    def __call__(self, database: Database, target: Target, *, looks: bool) -> object:
        """Append it; ``looks`` as for `lock_row`."""
        ...


class Choice(NamedTuple):
    """Which checkpoints of an owner are meant; see `CheckpointStore.list`."""

    session_id: str | None
    namespace: str | None
    checkpoint_id: str | None = None
    before: str | None = None

    def parameters(self, owner: str) -> dict[str, Any]:
        """Return the parameters of the conditions of `_chosen`."""
        return {
            "of_owner": owner,
            "of_session": self.session_id,
            "of_place": None if self.namespace is None else place_of(self.namespace),
            "of_id": self.checkpoint_id,
            "before": self.before,
        }

    @property
    def form(self) -> tuple[bool, ...]:
        """Which of the conditions there are."""
        return tuple(each is not None for each in self)


def _chosen(table: Table, form: tuple[bool, ...]) -> list[Any]:
    """Return the conditions on a row, by which parts of a `Choice` there are."""
    columns = table.c
    before = bindparam("before", type_=columns.checkpoint_id.type)
    possible = (
        columns.session_id == OF_SESSION,
        columns.place == _PLACE,
        columns.checkpoint_id == _ID,
        columns.checkpoint_id < before,
    )
    conditions = [each for each, is_there in zip(possible, form, strict=True) if is_there]
    return [columns.owner == OF_OWNER, *conditions]


@cache
def _page(form: tuple[bool, ...], *, is_next: bool) -> Select[Any]:
    order = (_COLUMNS.checkpoint_id, _COLUMNS.session_id, _COLUMNS.place)
    page = (
        select(*order, _COLUMNS.namespace, *(_COLUMNS[name] for name in _STATE[1:]))
        .where(*_chosen(checkpoints, form))
        .order_by(*(column.desc() for column in order))
        .limit(bindparam("most"))
    )
    content = (
        Content(7, "checkpoint", (2, 0)),
        Content(8, "checkpoint metadata", (2, 0)),
    )
    if not is_next:
        return reads(page, *content, session=1)
    id_, session_id, place = (
        bindparam(name, type_=column.type)
        for name, column in zip(("after_id", "after_session", "after_place"), order, strict=True)
    )
    comes_after = or_(
        order[0] < id_,
        and_(
            order[0] == id_,
            or_(order[1] < session_id, and_(order[1] == session_id, order[2] < place)),
        ),
    )
    return reads(page.where(comes_after), *content, session=1)


@cache
def _writes_of_page(form: tuple[bool, ...]) -> Select[Any]:
    written = checkpoint_writes.c
    lowest, highest = (
        bindparam(name, type_=written.checkpoint_id.type) for name in ("lowest", "highest")
    )
    rows = select(
        written.session_id,
        written.place,
        written.checkpoint_id,
        written.task_id,
        written.number,
        written.channel,
        written.type,
        written.body,
        written.task_path,
    ).where(*_chosen(checkpoint_writes, form), written.checkpoint_id.between(lowest, highest))
    return reads(rows, Content(7, "write", (1, 2, 3, 4)), session=0)


@cache
def _removal(form: tuple[bool, ...]) -> list[Executable]:
    return [delete(table).where(*_chosen(table, form)) for table in _TABLES]


def put(
    database: Database,
    session_id: str,
    owner: str,
    checkpoint: Checkpoint,
    metadata: str,
    fence: int | None,
    append: Append | None,
) -> None:
    """See `CheckpointStore.put`; ``append`` stores the messages.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    require_tables(database)
    target = Target(of_session=session_id, of_owner=owner)
    looks = append is not None and may_expire(database, target)
    row = {
        **target,
        "of_place": place_of(checkpoint.namespace),
        "of_id": checkpoint.checkpoint_id,
        "new_namespace": checkpoint.namespace,
        "new_parent_id": checkpoint.parent_id,
        "new_run_id": checkpoint.run_id,
        "new_type": checkpoint.type,
        "new_body": checkpoint.body,
        "new_metadata": metadata,
    }
    with transaction(database):
        if append is None:
            _use_session(database, target, fence)
        else:
            append(database, target, looks=looks)
        database.run(_PUT[database.dialect], row)


def put_writes(
    database: Database,
    session_id: str,
    owner: str,
    place: str,
    checkpoint_id: str,
    writes: Sequence[CheckpointWrite],
    fence: int | None,
) -> None:
    """See `CheckpointStore.put_writes`."""
    require_tables(database)
    target = Target(of_session=session_id, of_owner=owner)
    kept: list[dict[str, Any]] = []
    replaced: list[dict[str, Any]] = []
    for each in writes:
        parameters = {
            **target,
            "of_place": place,
            "of_id": checkpoint_id,
            "new_task_id": each.task_id,
            "new_number": each.index,
            "new_task_path": each.task_path,
            "new_channel": each.channel,
            "new_type": each.type,
            "new_body": each.body,
        }
        (replaced if each.index < 0 else kept).append(parameters)
    with transaction(database):
        # The checkpoint that follows marks the session as changed.
        row = lock_or_insert_row(database, target, looks=False)
        _check_usable(row.fence, fence, is_deleted=row.is_deleted)
        for statements, rows in ((_IGNORE_WRITE, kept), (_REPLACE_WRITE, replaced)):
            if rows:
                database.run(statements[database.dialect], *rows)


def _use_session(database: Database, target: Target, fence: int | None) -> None:
    """Lock the session's row, or insert it; it counts as changed."""
    if database.dialect == "sqlite":
        row = lock_or_insert_row(database, target, looks=False)
        _check_usable(row.fence, fence, is_deleted=row.is_deleted)
        if database.run(_use_again, target) and row.has_labels:
            touch_labels(database, target)
        return
    form = has_label_columns(database)
    if database.dialect in MYSQL:
        database.run(_USE[database.dialect, form], target)
        rows = database.rows(_SELECT_USED[form], target)
    else:
        rows = database.rows(_USE[database.dialect, form], target)
    ((current, deleted_at, *has_labels),) = rows
    _check_usable(current, fence, is_deleted=deleted_at is not None)
    if any(has_labels):
        touch_labels(database, target)


def _check_usable(current: int, fence: int | None, *, is_deleted: bool) -> None:
    if is_deleted:
        raise SessionDeleted
    if fence is not None and fence != current:
        raise TurnLost


def find(
    database: Database, session_id: str, owner: str, namespace: str, checkpoint_id: str | None
) -> StoredCheckpoint | None:
    """See `CheckpointStore.find`."""
    require_tables(database)
    parameters: dict[str, Any] = {
        "of_session": session_id,
        "of_owner": owner,
        "of_place": place_of(namespace),
        "of_id": checkpoint_id,
    }
    rows = database.rows(_FIND[checkpoint_id is None], parameters)
    if not rows:
        return None
    id_, *state = rows[0][:6]
    # Beside no write there are NULLs.
    writes = [_write_of(row[6:]) for row in rows if row[6] is not None]
    return StoredCheckpoint(session_id, _checkpoint_of(id_, namespace, *state), _ordered(writes))


def list_checkpoints(
    database: Database, owner: str, choice: Choice, limit: int, after: StoredCheckpoint | None
) -> list[StoredCheckpoint]:
    """See `CheckpointStore.list`."""
    require_tables(database)
    parameters = {**choice.parameters(owner), "most": limit}
    if after is not None:
        last = after.checkpoint
        parameters |= {
            "after_id": last.checkpoint_id,
            "after_session": after.session_id,
            "after_place": place_of(last.namespace),
        }
    rows = database.rows(_page(choice.form, is_next=after is not None), parameters)
    if not rows:
        return []
    writes: dict[tuple[str, ...], list[CheckpointWrite]] = {}
    span = {"lowest": text_of(rows[-1][0]), "highest": text_of(rows[0][0])}
    written = database.rows(_writes_of_page(choice.form), {**choice.parameters(owner), **span})
    for row in written:
        writes.setdefault(_key_of(row[:3]), []).append(_write_of(row[3:]))
    return [
        StoredCheckpoint(
            text_of(session_id),
            _checkpoint_of(id_, text_of(namespace), *state),
            _ordered(writes.get(_key_of((session_id, place, id_)), [])),
        )
        for id_, session_id, place, namespace, *state in rows
    ]


def heads(database: Database, session_id: str, owner: str) -> dict[str, str]:
    """See `CheckpointStore.heads`."""
    require_tables(database)
    rows = database.rows(_heads, Target(of_session=session_id, of_owner=owner))
    return {text_of(namespace): text_of(checkpoint_id) for namespace, checkpoint_id in rows}


def remove(database: Database, owner: str, choice: Choice) -> int:
    """See `CheckpointStore.remove`."""
    require_tables(database)
    parameters = choice.parameters(owner)
    with transaction(database):
        return [database.run(each, parameters) for each in _removal(choice.form)][-1]


def remove_runs(database: Database, owner: str, run_ids: Sequence[str]) -> int:
    """See `CheckpointStore.remove_runs`."""
    require_tables(database)
    with transaction(database):
        found = [
            {"of_owner": owner, "of_session": session_id, "of_place": place, "of_id": id_}
            for run_id in run_ids
            for session_id, place, id_ in map(
                _key_of, database.rows(_of_runs, {"of_owner": owner, "run_id": run_id})
            )
        ]
        for statement in _remove_one if found else ():
            database.run(statement, *found)
    return len(found)


def copy(database: Database, session_id: str, new_id: str, owner: str, *, repeated: bool) -> int:
    """See `CheckpointStore.copy`; ``repeated``: an earlier attempt may be committed."""
    require_tables(database)
    target = Target(of_session=session_id, of_owner=owner)
    new = Target(of_session=new_id, of_owner=owner)
    with transaction(database):
        ((count, is_encrypted),) = database.rows(_source, target)
        if not count:
            return 0
        if is_encrypted and not database.encrypts:
            raise needs_keys()
        _use_session(database, new, None)
        there = _count_of(database, new)
        if there:
            if repeated:
                return there
            raise SessionConflict(0, there)
        for statement in _copy:
            database.run(statement, {**target, "new_id": new_id})
    return int(count)


def has_checkpoints(database: Database, target: Target) -> bool:
    """Tell whether the session has any; the tables exist."""
    return _count_of(database, target) > 0


def remove_all(database: Database, target: Target) -> bool:
    """Remove what a session whose row is locked has; return whether there was any."""
    return [database.run(each, target) for each in _removal((True, False, False, False))][-1] > 0


def count_of(database: Database, of_sessions: Sequence[Key]) -> int:
    """Return how many checkpoints the sessions have."""
    return _KEYED[-1].count(database, of_sessions)


def remove_of(database: Database, of_sessions: Sequence[Key]) -> None:
    """Remove what sessions have whose rows are locked, and are removed too."""
    for table in _KEYED:
        table.delete(database, of_sessions)


def move(database: Database, target: Target, new_id: str, new_owner: str) -> None:
    """Move all to another session, whose row exists."""
    for statement in _move:
        database.run(statement, {**target, "new_id": new_id, "new_owner": new_owner})


def _count_of(database: Database, target: Target) -> int:
    ((count,),) = database.rows(_count, target)
    return int(count)


def _key_of(row: Sequence[Any]) -> tuple[str, ...]:
    return tuple(text_of(each) for each in row)


def _checkpoint_of(
    id_: Any, namespace: str, parent_id: Any, run_id: Any, type_: Any, body: Any, metadata: Any
) -> Checkpoint:
    return Checkpoint(
        text_of(id_),
        text_of(type_),
        bytes(body),
        decode_messages([text_of(metadata)])[0],
        namespace,
        None if parent_id is None else text_of(parent_id),
        None if run_id is None else text_of(run_id),
    )


def _write_of(row: Sequence[Any]) -> CheckpointWrite:
    task_id, number, channel, type_, body, task_path = row
    return CheckpointWrite(
        text_of(task_id), number, text_of(channel), text_of(type_), bytes(body), text_of(task_path)
    )


def _ordered(writes: Sequence[CheckpointWrite]) -> list[CheckpointWrite]:
    return sorted(writes, key=lambda each: (each.task_path, each.task_id, each.index))
