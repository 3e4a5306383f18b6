"""``export``: write sessions as JSON Lines."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from hermes_session_mw.cli.errors import PROBLEM
from hermes_session_mw.cli.files import writing
from hermes_session_mw.cli.options import (
    existing_session,
    owner_filter,
    owners_options,
    settings_of,
    some_ids_argument,
)
from hermes_session_mw.cli.sources import Settings, with_source
from hermes_session_mw.cli.terminal import progress
from hermes_session_mw.cli.text import escaped
from hermes_session_mw.exceptions import InvalidKey, StoreCorrupt
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession

if TYPE_CHECKING:
    from hermes_session_mw.cli.sources import Source


@click.command()
@some_ids_argument
@click.option("--all", "every", is_flag=True, help="Export all sessions.")
@click.option(
    "--output", "-o", default="-", metavar="FILE", type=click.Path(allow_dash=True, dir_okay=False),
    help="The file to write, which is replaced at the end; '-' for standard output.",
)  # fmt: skip
@click.option("--without-owner", is_flag=True, help="Leave the owners out.")
@owners_options
@settings_of
def export(
    settings: Settings,
    *,
    ids: tuple[str, ...],
    every: bool,
    output: str,
    without_owner: bool,
    owner: str | None,
    all_owners: bool,
) -> None:
    """Write sessions as JSON Lines, for import to read.

    Each session is read in one snapshot, without its archived messages. With --all, one that cannot
    be read is named on stderr, the others are written, and the exit code is 1.
    """
    only = owner_filter(owner, all_owners=all_owners)
    if every == bool(ids):
        raise click.UsageError("Give either ids or --all.")

    unread: list[str] = []

    async def write(store: "Source") -> int:
        # Before anything is written, so that an unknown id leaves an existing file as it was.
        named = [await existing_session(store, each, only) for each in dict.fromkeys(ids)]
        count = len(named) if ids else (await store.totals(only)).sessions
        with writing(output) as target, progress("Exporting", count) as advance:
            written = 0
            async for session in _walk(store, only) if every else _each(named):
                advance(1)
                lines = await _read(store, session, unread if every else None)
                if lines is not None:  # else it was deleted meanwhile
                    owned = lines if without_owner else jsonl.with_owner(lines, session.owner)
                    target.write(owned)
                    written += 1
        return written

    written = with_source(settings, write)
    if output != "-":
        click.echo(f"sessions exported: {written}", err=True)
    if unread:
        click.echo(f"sessions that could not be read: {len(unread)}", err=True)
        raise click.exceptions.Exit(PROBLEM)


async def _read(store: "Source", session: OwnedSession, unread: list[str] | None) -> str | None:
    """Return the session's lines, None if there are none; ``unread`` takes what cannot be read."""
    session_id = session.info.id
    try:
        return await store.export_snapshot(session_id, session.owner or "")
    except (StoreCorrupt, InvalidKey) as exc:
        if unread is None:
            raise
        unread.append(session_id)
        click.echo(f"session {escaped(session_id)}: {escaped(str(exc))}", err=True)
        return None


async def _walk(store: "Source", owner: str | None) -> AsyncIterator[OwnedSession]:
    last: OwnedSession | None = None
    while found := await store.walk(owner, last):
        for session in found:
            yield session
        last = found[-1]


async def _each(sessions: list[OwnedSession]) -> AsyncIterator[OwnedSession]:
    for session in sessions:
        yield session
