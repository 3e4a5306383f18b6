"""``delete``, ``prune`` and ``erase``: remove sessions for good."""

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
    from hermes_session_mw.stores.owner_store import ErasureReceipt
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
    "--older-than", type=AGE, metavar="AGE|TIME",
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
    older_than: timedelta | datetime | None,
    owner: str | None,
    all_owners: bool,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Delete sessions that have not changed for some time, by the database's clock.

    A session with a setting of expiry, its own or its owner's, is deleted if it has expired, and
    without --older-than only such ones are. Answers that ended before that are forgotten, and those
    that have lost their process are ended.
    """
    only = owner_filter(owner, all_owners=all_owners)

    async def count(store: "AdminStore") -> "tuple[float | None, PruneCounts]":
        if older_than is None:
            return None, await store.count_expired(only)
        since = (
            await store.cutoff(older_than)
            if isinstance(older_than, timedelta)
            else older_than.timestamp()
        )
        return since, await store.count_stale(since, only)

    async def remove(store: "AdminStore") -> "PruneCounts":
        with progress("Pruning", counts.sessions + counts.ids) as advance:
            if cutoff is None:
                return await store.remove_expired(only, advance)
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


@click.command(short_help="Erase all that an owner has.")
@click.option("--owner", help="The owner.")
@click.option("--ownerless", is_flag=True, help="Erase everything that has no owner.")
@click.option(
    "--no-vacuum", is_flag=True,
    help="Do not write a SQLite file anew, whose unused parts may have old copies.",
)  # fmt: skip
@yes_option
@json_option
@settings_of
def erase(
    settings: Settings,
    *,
    owner: str | None,
    ownerless: bool,
    no_vacuum: bool,
    yes: bool,
    json: bool,
) -> None:
    """Erase all that an owner has, also what is in use: sessions, archives, keys and answers.

    Keep the owner's requests out first: what begins meanwhile may stay. A SQLite file is written
    anew at the end: nobody else can write meanwhile, about a second for each 100 MB.
    """
    if ownerless == bool(owner):
        raise click.UsageError("Give either --owner NAME or --ownerless.")
    name = owner or ""

    async def remove(store: "AdminStore") -> "ErasureReceipt":
        return await store.erase_owner(name, ownerless=ownerless, vacuum=not no_vacuum)

    if not yes:
        totals = with_admin_store(
            settings, "erase", lambda store: store.totals(name), access="read"
        )
        whose = "nobody" if ownerless else f"'{escaped(name)}'"
        sizes = f"{_number(totals.sessions, 'session')} with {_number(totals.messages, 'message')}"
        confirm(f"Erase all that {whose} owns, {sizes}?", yes=yes)
    receipt = with_admin_store(settings, "erase", remove, access="write")
    if json:
        click.echo(as_json(asdict(receipt)))
        return
    parts = (
        (receipt.sessions, "session"),
        (receipt.messages, "message"),
        (receipt.archived, "archived message"),
        (receipt.keys, "key"),
        (receipt.answers, "answer"),
        (receipt.message_ids, "message id"),
        (receipt.checkpoints, "checkpoint"),
        (receipt.ids, "unused id"),
    )
    said = " with ".join(_number(count, what) for count, what in parts[:2])
    rest = [_number(count, what) for count, what in parts[2:] if count]
    click.echo(f"{', '.join([said, *rest])} erased")


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
