"""``import``: store sessions from JSON Lines."""

import itertools
import json as json_
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING

import click

from hermes_session_mw.cli.errors import CONFLICT, Failure
from hermes_session_mw.cli.json_output import as_json
from hermes_session_mw.cli.options import json_option, settings_of
from hermes_session_mw.cli.sources import Settings, with_admin_store
from hermes_session_mw.cli.terminal import progress
from hermes_session_mw.cli.text import escaped
from hermes_session_mw.exceptions import InvalidMessage, SessionConflict
from hermes_session_mw.stores import jsonl

if TYPE_CHECKING:
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

_STEP = 100_000
"""Bytes that one step of the progress bar stands for."""


@dataclass(slots=True)
class _Report:
    """The counts of an import, and the ids that were in conflict."""

    imported: int = 0
    messages: int = 0
    unchanged: int = 0
    empty: int = 0
    conflicts: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"sessions imported: {self.imported}, with messages: {self.messages}; unchanged: "
            f"{self.unchanged}; empty: {self.empty}; in conflict: {len(self.conflicts)}"
        )


@click.command("import", short_help="Store sessions from JSON Lines.")
@click.argument("file", type=click.File("rb"))
@click.option("--as", "new_id", metavar="NEWID", help="Another id for the only session in FILE.")
@click.option("--owner", help="The owner of all sessions, instead of those in FILE; '' for none.")
@json_option
@settings_of
def import_(
    settings: Settings, *, file: IO[bytes], new_id: str | None, owner: str | None, json: bool
) -> None:
    """Store the sessions of FILE, or of the standard input where it is '-'.

    Each session is stored as a whole or not at all. A session that is stored already, with the same
    messages, is left unchanged, so an interrupted import can simply be repeated. A session is left
    out if its id has other messages or was deleted; the exit code is then 5. Missing tables are
    created.
    """
    report = _Report()

    async def import_all(store: "AdminStore") -> None:
        with progress("Importing", _size(file) // _STEP) as advance:
            done = 0
            for session in _only_one_if_renamed(jsonl.split(file), new_id):
                await _import(store, session, report, new_id=new_id, owner=owner)
                before, done = done, done + session.size
                advance(done // _STEP - before // _STEP)

    try:
        with_admin_store(settings, "import", import_all, access="create")
    finally:
        if sys.exc_info()[0] is not None and report != _Report():
            click.echo(f"before the error: {report}", err=True)
    if json:
        click.echo(as_json(asdict(report)))
    else:
        click.echo(str(report))
    if report.conflicts:
        raise click.exceptions.Exit(CONFLICT)


async def _import(
    store: "AdminStore",
    session: jsonl.SessionLines,
    report: _Report,
    *,
    new_id: str | None,
    owner: str | None,
) -> None:
    session_owner = (session.owner if owner is None else owner) or ""
    if session.is_empty:
        report.empty += 1
        return
    try:
        await store.import_(session.text, session_owner, new_id)
    except InvalidMessage as exc:
        raise Failure(f"the session that begins in line {session.line}: {exc}") from None
    except SessionConflict:
        head, _, _ = session.text.partition("\n")
        session_id = new_id or json_.loads(head)["id"]
        stored = await store.export_snapshot(session_id, session_owner)
        if stored is not None and jsonl.normalized_rows(stored) == jsonl.normalized_rows(
            session.text
        ):
            report.unchanged += 1
            return
        report.conflicts.append(session_id)
        click.echo(f"Error: {escaped(session_id)} is or was in use, with other messages", err=True)
    else:
        report.imported += 1
        report.messages += len(jsonl.normalized_rows(session.text))


def _only_one_if_renamed(
    sessions: Iterator[jsonl.SessionLines], new_id: str | None
) -> Iterable[jsonl.SessionLines]:
    """Return the sessions; if another id is given, check that there is only one."""
    if new_id is None:
        return sessions
    first = list(itertools.islice(sessions, 2))
    if len(first) > 1:
        raise click.UsageError("--as needs a file with one session, and this file has more.")
    return first


def _size(file: IO[bytes]) -> int:
    """Return the file's size; 0 if it is not a regular file."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
