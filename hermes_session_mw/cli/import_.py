"""``import``: sessions from JSON Lines."""

import itertools
import json as json_
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

import click

from hermes_session_mw.cli.errors import CONFLICT, Failure
from hermes_session_mw.cli.files import Exported, rows_of, sessions_in
from hermes_session_mw.cli.json_output import as_json
from hermes_session_mw.cli.options import json_option, settings_of
from hermes_session_mw.cli.sources import Settings, operate
from hermes_session_mw.cli.terminal import progress
from hermes_session_mw.cli.text import shown
from hermes_session_mw.exceptions import InvalidMessage, SessionConflict
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

_STEP = 100_000
"""Bytes that one step of the progress bar stands for."""


@dataclass(slots=True)
class _Report:
    """What became of the sessions of a file."""

    imported: int = 0
    messages: int = 0
    unchanged: int = 0
    empty: int = 0
    conflicts: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"sessions imported: {self.imported}, with messages: {self.messages}; there already: "
            f"{self.unchanged}; without a message: {self.empty}; in conflict: {len(self.conflicts)}"
        )


@click.command("import", short_help="Store sessions from JSON Lines.")
@click.argument("file", type=click.File("rb"))
@click.option("--as", "new_id", metavar="NEWID", help="The id for the one session in the file.")
@click.option("--owner", help="Whose they will be, whatever the file says; '' is nobody's.")
@json_option
@settings_of
def import_(
    settings: Settings, *, file: IO[bytes], new_id: str | None, owner: str | None, json: bool
) -> None:
    """Store the sessions of FILE, or of the standard input where it is '-'.

    Each is stored as a whole or not at all. One that is there already, with the same messages, is
    left alone, so that an import that was broken off is taken up by repeating it. One whose id has
    other messages, or was deleted, is left out, and the exit code is 5. Tables that are missing are
    made.
    """
    report = _Report()

    async def import_all(store: AdminStore) -> None:
        with progress("Importing", _size(file) // _STEP) as advance:
            steps = _Steps()
            for session in _alone(sessions_in(file), new_id):
                await _import(store, session, report, new_id=new_id, owner=owner)
                advance(steps.after(session.size))

    try:
        operate(settings, "import", import_all, access="create")
    finally:
        if sys.exc_info()[0] is not None and report != _Report():
            click.echo(f"before that: {report}", err=True)
    if json:
        shape = {
            "imported": report.imported,
            "messages": report.messages,
            "unchanged": report.unchanged,
            "empty": report.empty,
            "conflicts": report.conflicts,
        }
        click.echo(as_json(shape))
    else:
        click.echo(str(report))
    if report.conflicts:
        raise click.exceptions.Exit(CONFLICT)


async def _import(
    store: AdminStore,
    session: Exported,
    report: _Report,
    *,
    new_id: str | None,
    owner: str | None,
) -> None:
    whose = session.owner if owner is None else owner
    if session.is_empty:
        report.empty += 1
        return
    try:
        await store.import_(session.lines, whose or "", new_id)
    except InvalidMessage as exc:
        raise Failure(f"the session that begins in line {session.line}: {exc}") from None
    except SessionConflict:
        head, _, _ = session.lines.partition("\n")
        session_id = new_id or json_.loads(head)["id"]
        stored = await store.lines(session_id, whose or "")
        if stored is not None and rows_of(stored) == rows_of(session.lines):
            report.unchanged += 1
            return
        report.conflicts.append(session_id)
        click.echo(f"Error: {shown(session_id)} is or was in use, with other messages", err=True)
    else:
        report.imported += 1
        report.messages += len(rows_of(session.lines))


def _alone(sessions: Iterator[Exported], new_id: str | None) -> Iterable[Exported]:
    """Return the sessions, of which there may be only one where it is to get another id."""
    if new_id is None:
        return sessions
    first = list(itertools.islice(sessions, 2))
    if len(first) > 1:
        raise click.UsageError("--as is for a file with one session, and this one has more.")
    return first


class _Steps:
    """Steps of the progress bar, counted from bytes."""

    def __init__(self) -> None:
        self._bytes = 0

    def after(self, size: int) -> int:
        """Return how many steps ``size`` more bytes are."""
        before = self._bytes // _STEP
        self._bytes += size
        return self._bytes // _STEP - before


def _size(file: IO[bytes]) -> int:
    """Return the file's size; 0 where it is none."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
