"""``search`` and ``search-index``: find messages by their words, and index those from before."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from hermes_session_mw.cli.errors import refusing_values
from hermes_session_mw.cli.json_output import as_json, plain
from hermes_session_mw.cli.options import (
    AGE,
    json_option,
    owner_filter,
    owners_options,
    session_of,
    settings_of,
)
from hermes_session_mw.cli.sources import Settings, with_admin_store
from hermes_session_mw.cli.terminal import progress, width
from hermes_session_mw.cli.text import table
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedHit, OwnedHits

if TYPE_CHECKING:
    from hermes_session_mw.stores.search import SearchHit
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

_HEADERS = ["SESSION", "OWNER", "MESSAGE", "ROLE", "STORED (UTC)", "TEXT"]
_NOT_SEARCHED = "is not searched here"
_MOST = 100
_USUAL = 20


@click.command(short_help="Find messages by their words.")
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@owners_options
@click.option("--session", help="Only in this session.")
@click.option("--role", help="Only messages with this role, such as user.")
@click.option(
    "--since", type=AGE, metavar="AGE|TIME",
    help="Stored within 30d, 12h, 45m, 10s or 2w; or since 2026-01-31.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(1, _MOST), default=_USUAL, show_default=True,
    help="Messages on a page.",
)  # fmt: skip
@click.option("--cursor", help="Go on after the page that printed this cursor.")
@json_option
@settings_of
def search(
    settings: Settings,
    *,
    words: tuple[str, ...],
    owner: str | None,
    all_owners: bool,
    session: str | None,
    role: str | None,
    since: timedelta | datetime | None,
    limit: int,
    cursor: str | None,
    json: bool,
) -> None:
    """Find messages that have all words; what is in quotation marks as it stands.

    Without --owner those of all owners are searched, one owner after another. The store needs a
    search index: see search-index.
    """
    query = " ".join(words)
    only = owner_filter(owner, all_owners=all_owners)

    async def find(store: "AdminStore") -> OwnedHits:
        begin = since
        if isinstance(begin, timedelta):
            from hermes_session_mw.stores.pagination import time_of  # noqa: PLC0415

            begin = time_of(int(await store.cutoff(begin) * 1_000_000))
        if session is None:
            return await store.search_owned(only, query, limit, cursor, role=role, since=begin)
        there = await session_of(store, session, only)
        of = only or "" if there is None else there.owner or ""
        page = await store.search(
            of, query, limit, cursor, session_id=session, role=role, since=begin
        )
        return OwnedHits([OwnedHit(each, of) for each in page.hits], page.cursor)

    with refusing_values():
        page = with_admin_store(settings, "search", find, access="read", over_hermes=_NOT_SEARCHED)
    if json:
        hits = [_hit_json(each.hit, each.owner) for each in page.hits]
        click.echo(as_json({"hits": hits, "cursor": page.cursor}))
        return
    _print(page)


@click.command("search-index", short_help="Index messages, so that search finds them.")
@click.option("--tool-output", is_flag=True, help="Also index what tools were given and returned.")
@click.option("--pictures", is_flag=True, help="Also index pictures' URLs and names of files.")
@click.option("--drop", is_flag=True, help="Drop the index instead.")
@json_option
@settings_of
def search_index(
    settings: Settings, *, tool_output: bool, pictures: bool, drop: bool, json: bool
) -> None:
    """Make the search index, if it is not there, and index every message that is not in it.

    Applications go on reading and writing meanwhile. It may be stopped, and run again: it goes on
    from there. From then on new messages are indexed by applications whose store has search=True.
    """

    async def build(store: "AdminStore") -> int:
        if drop:
            await store.drop_search_index()
            return 0
        from hermes_session_mw.stores.search import SearchOptions  # noqa: PLC0415

        options = SearchOptions(tool_output=tool_output, pictures=pictures)
        expected = (await store.totals()).messages
        with progress("Indexing", expected) as advance:
            return await store.index_messages(advance, options)

    indexed = with_admin_store(
        settings, "search-index", build, access="write", over_hermes=_NOT_SEARCHED
    )
    if json:
        click.echo(as_json({"indexed": indexed}))
    else:
        click.echo("the search index is dropped" if drop else f"messages indexed: {indexed}")


def _print(page: OwnedHits) -> None:
    rows = [_row(each.hit, each.owner) for each in page.hits]
    for line in table(_HEADERS, rows, width()):
        click.echo(line)
    if not page.hits:
        click.echo("nothing was found", err=True)
    if page.cursor is not None:
        click.echo(f"For the next page: --cursor {page.cursor}", err=True)


def _hit_json(hit: "SearchHit", owner: str) -> dict[str, Any]:
    return {
        "session_id": hit.session_id,
        "owner": owner,
        "title": hit.title,
        "turn_id": hit.turn_id,
        "index": hit.index,
        "role": hit.role,
        "created_at": hit.created_at,
        "rank": hit.rank,
        "snippet": hit.snippet,
        "marks": hit.marks,
    }


def _row(hit: "SearchHit", owner: str) -> list[str | int]:
    text, end = "", 0
    for start, stop in hit.marks:
        text += f"{hit.snippet[end:start]}[{hit.snippet[start:stop]}]"
        end = stop
    text += hit.snippet[end:]
    return [hit.session_id, owner, hit.index, hit.role, plain(hit.created_at), text]
