"""``delete`` and ``prune``: remove sessions for good."""

from dataclasses import asdict, astuple
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from hermes_session_mw.cli.errors import PROBLEM
from hermes_session_mw.cli.json_output import as_json
from hermes_session_mw.cli.options import (
    AGE,
    ids_argument,
    json_option,
    owner_filter,
    owner_option,
    owners_options,
    session_of,
    settings_of,
    yes_option,
)
from hermes_session_mw.cli.sources import Settings, with_admin_store
from hermes_session_mw.cli.terminal import confirm, progress
from hermes_session_mw.cli.text import escaped
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession

if TYPE_CHECKING:
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
    from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import PruneCounts


@click.command()
@ids_argument
@owner_option
@yes_option
@json_option
@settings_of
def delete(
    settings: Settings, *, ids: tuple[str, ...], owner: str | None, yes: bool, json: bool
) -> None:
    """Delete sessions; their ids cannot be used again."""
    wanted = list(dict.fromkeys(ids))

    async def find(store: "AdminStore") -> list[OwnedSession]:
        found = [await session_of(store, each, owner) for each in wanted]
        return [each for each in found if each is not None]

    async def remove(store: "AdminStore") -> list[str]:
        gone = []
        with progress("Deleting", len(there)) as advance:
            for each in there:
                if await store.delete(each.info.id, each.owner or ""):
                    gone.append(each.info.id)
                advance(1)
        return gone

    there = with_admin_store(settings, "delete", find, access="write")
    gone: list[str] = []
    if there:
        messages = sum(each.info.length for each in there)
        confirm(
            f"Delete {_number(len(there), 'session')} with {_number(messages, 'message')}?", yes=yes
        )
        gone = with_admin_store(settings, "delete", remove, access="write")
    missing = [each for each in wanted if each not in gone]
    for each in missing:
        click.echo(f"Error: there is no session '{escaped(each)}'", err=True)
    click.echo(
        as_json({"deleted": gone, "missing": missing})
        if json
        else f"{_number(len(gone), 'session')} deleted"
    )
    if missing:
        raise click.exceptions.Exit(PROBLEM)


@click.command(short_help="Delete sessions that have not changed for some time.")
@click.option(
    "--older-than", type=AGE, required=True, metavar="AGE|TIME",
    help="30d, 12h, 45m, 10s, 2w; or 2026-01-31, or 2026-01-31T12:00:00Z.",
)  # fmt: skip
@owners_options
@click.option("--dry-run", is_flag=True, help="Count what would be deleted, and delete nothing.")
@yes_option
@json_option
@settings_of
def prune(
    settings: Settings,
    *,
    older_than: timedelta | datetime,
    owner: str | None,
    all_owners: bool,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Delete sessions that have not changed for some time, by the database's clock.

    Answers that ended before that are forgotten, and those that have lost their process are ended.
    """
    only = owner_filter(owner, all_owners=all_owners)

    async def count(store: "AdminStore") -> "tuple[float, PruneCounts]":
        since = (
            await store.cutoff(older_than)
            if isinstance(older_than, timedelta)
            else older_than.timestamp()
        )
        return since, await store.count_stale(since, only)

    async def remove(store: "AdminStore") -> "PruneCounts":
        with progress("Pruning", counts.sessions + counts.ids) as advance:
            return await store.prune_stale(cutoff, only, advance)

    cutoff, counts = with_admin_store(
        settings, "prune", count, access="read" if dry_run else "write"
    )
    if not dry_run and any(astuple(counts)):
        confirm(f"Prune {_summary(counts)}{_interrupted(counts, ', and end ')}?", yes=yes)
        counts = with_admin_store(settings, "prune", remove, access="write")
    if json:
        click.echo(as_json({"dry_run": dry_run, **asdict(counts)}))
    else:
        done = "would be " if dry_run else ""
        also = _interrupted(counts, ", ", f" {done}ended")
        click.echo(f"{_summary(counts)} {done}pruned{also}")


def _summary(counts: "PruneCounts") -> str:
    parts = [_number(counts.sessions, "session") + " with " + _number(counts.messages, "message")]
    rest = (
        (counts.ids, "unused id"),
        (counts.keys, "unused key"),
        (counts.answers, "ended answer"),
    )
    return ", ".join(parts + [_number(count, what) for count, what in rest if count])


def _interrupted(counts: "PruneCounts", before: str, after: str = "") -> str:
    """Return what becomes of answers that have lost their process, as a part of a sentence."""
    if not counts.folded:
        return ""
    return f"{before}{_number(counts.folded, 'interrupted answer')}{after}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
