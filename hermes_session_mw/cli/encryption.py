"""``encrypt``, ``decrypt`` and ``rewrap``: encryption at rest, and its master key."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from hermes_session_mw.cli.check import line_of
from hermes_session_mw.cli.errors import PROBLEM
from hermes_session_mw.cli.json_output import as_json, problem_json
from hermes_session_mw.cli.options import json_option, settings_of, yes_option
from hermes_session_mw.cli.sources import Settings, with_admin_store
from hermes_session_mw.cli.terminal import confirm, progress
from hermes_session_mw.stores.sqlalchemy.admin.models import KeyCounts

if TYPE_CHECKING:
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

Advance = Callable[[int], None]


@click.command(short_help="Encrypt what is stored plain.")
@click.option(
    "--no-vacuum", is_flag=True,
    help="Do not write a SQLite file anew, which keeps writers out meanwhile.",
)  # fmt: skip
@yes_option
@json_option
@settings_of
def encrypt(settings: Settings, *, no_vacuum: bool, yes: bool, json: bool) -> None:
    """Encrypt all content that is stored plain, while others read and write.

    Repeat it after an interruption: it goes on. The store's processes need the keys first.
    """

    async def change(store: "AdminStore", advance: Advance) -> KeyCounts:
        return await store.encrypt(advance, vacuum=not no_vacuum)

    rows = with_admin_store(settings, "encrypt", lambda store: store.count_plain(), access="write")
    if rows:
        confirm(f"Encrypt {_number(rows, 'row')}?", yes=yes, done="encrypted")
    counts = _with_progress(settings, "encrypt", "Encrypting", rows, change)
    _report(counts, "encrypted", "row", json=json)


@click.command(short_help="Store plain again what is encrypted.")
@yes_option
@json_option
@settings_of
def decrypt(settings: Settings, *, yes: bool, json: bool) -> None:
    """Store all content plain again, while others read and write.

    What processes with keys write meanwhile is encrypted: take the keys from them, and repeat it.
    """

    async def change(store: "AdminStore", advance: Advance) -> KeyCounts:
        return await store.decrypt(advance)

    rows = with_admin_store(
        settings, "decrypt", lambda store: store.count_encrypted(), access="write"
    )
    if rows:
        confirm(f"Store {_number(rows, 'row')} plain?", yes=yes, done="decrypted")
    counts = _with_progress(settings, "decrypt", "Decrypting", rows, change)
    _report(counts, "decrypted", "row", json=json)


@click.command(short_help="Turn the master key.")
@yes_option
@json_option
@settings_of
def rewrap(settings: Settings, *, yes: bool, json: bool) -> None:
    """Wrap every session's data key by the current master key, while others read and write.

    Under 100 bytes of each session are rewritten, and no content. The store's processes need the
    new key first, beside the old one; once this has ended without problems, the old one can go.
    """

    async def change(store: "AdminStore", advance: Advance) -> KeyCounts:
        return await store.rewrap(advance)

    keys = with_admin_store(
        settings, "rewrap", lambda store: store.count_old_keys(), access="write"
    )
    if keys:
        confirm(f"Rewrap {_number(keys, 'data key')}?", yes=yes, done="rewrapped")
    counts = _with_progress(settings, "rewrap", "Rewrapping", keys, change)
    _report(counts, "rewrapped", "data key", json=json)


def _with_progress(
    settings: Settings,
    operation: str,
    label: str,
    expected: int,
    change: "Callable[[AdminStore, Advance], Awaitable[KeyCounts]]",
) -> KeyCounts:
    async def work(store: "AdminStore") -> KeyCounts:
        with progress(label, expected) as advance:
            return await change(store, advance)

    return with_admin_store(settings, operation, work, access="write")


def _report(counts: KeyCounts, done: str, what: str, *, json: bool) -> None:
    if json:
        found = [problem_json(each) for each in counts.problems]
        click.echo(as_json({done: counts.done, "problems": found}))
    else:
        for each in counts.problems:
            click.echo(line_of(each), err=True)
        click.echo(f"{_number(counts.done, what)} {done}")
    if counts.problems:
        raise click.exceptions.Exit(PROBLEM)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
