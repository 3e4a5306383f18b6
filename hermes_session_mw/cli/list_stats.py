"""``list`` and ``stats``."""

from dataclasses import asdict
from typing import get_args

import click

from hermes_session_mw.cli.errors import refusing_values
from hermes_session_mw.cli.json_output import as_json, plain, session_json
from hermes_session_mw.cli.options import (
    PAIR,
    json_option,
    owner_filter,
    owners_options,
    settings_of,
)
from hermes_session_mw.cli.sources import Settings, Source, with_source
from hermes_session_mw.cli.terminal import width
from hermes_session_mw.cli.text import escaped, table
from hermes_session_mw.stores.labels import Order, make_filter
from hermes_session_mw.stores.models import MAX_PAGE, PAGE
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedPage, OwnedSession, Totals

_HEADERS = ["ID", "OWNER", "TITLE", "MESSAGES", "TURNS", "CREATED (UTC)", "UPDATED (UTC)"]
_LIMIT = click.IntRange(1, MAX_PAGE)


@click.command("list")
@owners_options
@click.option("--limit", type=_LIMIT, default=PAGE, show_default=True, help="Sessions on a page.")
@click.option("--cursor", help="Go on after the page that printed this cursor.")
@click.option("--archived", is_flag=True, help="Add a column with the number of archived messages.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only with this tag; repeatable.")
@click.option("--pinned/--not-pinned", default=None, help="Only pinned sessions, or the others.")
@click.option("--shelved/--not-shelved", default=None, help="Only shelved ones, or the others.")
@click.option(
    "--metadata", "pairs", multiple=True, type=PAIR, help="Only with this pair of metadata."
)
@click.option(
    "--order", type=click.Choice(get_args(Order)), default="updated", show_default=True,
    help="The last changed first, or the pinned ones before them.",
)  # fmt: skip
@json_option
@settings_of
def list_sessions(
    settings: Settings,
    *,
    owner: str | None,
    all_owners: bool,
    limit: int,
    cursor: str | None,
    archived: bool,
    tags: tuple[str, ...],
    pinned: bool | None,
    shelved: bool | None,
    pairs: tuple[tuple[str, str], ...],
    order: Order,
    json: bool,
) -> None:
    """List sessions, the most recently changed ones first."""
    only = owner_filter(owner, all_owners=all_owners)
    try:
        wanted = make_filter(
            tag=tags, pinned=pinned, shelved=shelved, metadata=dict(pairs), order=order
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None

    async def read(source: Source) -> OwnedPage:
        return await source.list_owned(only, limit, cursor, wanted, first_words=True)

    with refusing_values():
        page = with_source(settings, read)
    if json:
        sessions = [session_json(each) for each in page.sessions]
        click.echo(as_json({"sessions": sessions, "cursor": page.cursor}))
    else:
        _print(page, archived=archived)


@click.command(short_help="Count sessions, messages, turns, owners and answers.")
@owners_options
@json_option
@settings_of
def stats(settings: Settings, *, owner: str | None, all_owners: bool, json: bool) -> None:
    """Count sessions, messages, turns, owners and answers, without reading any message."""
    only = owner_filter(owner, all_owners=all_owners)
    totals = with_source(settings, lambda source: source.totals(only))
    from hermes_session_mw.database.url_masking import redact_url  # noqa: PLC0415

    store = redact_url(settings.url)
    if json:
        click.echo(as_json({"store": store, **asdict(totals)}))
        return
    rows = [(name, value) for name, value in _figures(store, totals) if value is not None]
    size = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{size}}  {escaped(str(value))}")


def _print(page: OwnedPage, *, archived: bool) -> None:
    headers = [*_HEADERS, "ARCHIVED"] if archived else _HEADERS
    rows = [_row(each)[: len(headers)] for each in page.sessions]
    for line in table(headers, rows, width()):
        click.echo(line)
    if not page.sessions:
        click.echo("no sessions", err=True)
    if page.cursor is not None:
        click.echo(f"For the next page: --cursor {page.cursor}", err=True)


def _row(session: OwnedSession) -> list[str | int]:
    info = session.info
    return [
        info.id,
        session.owner or "",
        info.title or info.first_words or "",
        info.length,
        _or_blank(session.turns),
        plain(info.created_at),
        plain(info.updated_at),
        _or_blank(session.archived),
    ]


def _or_blank(number: int | None) -> str | int:
    return "" if number is None else number


def _figures(store: str, totals: Totals) -> list[tuple[str, str | int | None]]:
    sizes = [(f"bytes of {name}", size) for name, size in totals.bytes.items()]
    return [
        ("store", store),
        ("sessions", totals.sessions),
        ("messages", totals.messages),
        ("turns", totals.turns),
        ("archived messages", totals.archived),
        ("owners", totals.owners),
        ("ownerless sessions", totals.ownerless),
        ("deleted ids", totals.deleted),
        ("open answers", totals.open_answers),
        ("ended answers", totals.ended_answers),
        ("events of answers", totals.answer_events),
        ("oldest (UTC)", plain(totals.oldest) or None),
        ("newest (UTC)", plain(totals.newest) or None),
        *sizes,
    ]
