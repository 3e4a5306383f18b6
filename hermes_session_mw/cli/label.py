"""``label``: set sessions' titles, tags, pins, shelves and metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from hermes_session_mw.cli.json_output import as_json, session_json
from hermes_session_mw.cli.options import (
    PAIR,
    existing_session,
    ids_argument,
    json_option,
    owner_option,
    settings_of,
)
from hermes_session_mw.cli.sources import Settings, with_admin_store
from hermes_session_mw.exceptions import InvalidLabel
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.labels import MAX_PAIRS, LabelChange, check_pairs, make_change

if TYPE_CHECKING:
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
    from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession


@dataclass(frozen=True)
class PairEdit(LabelChange):
    """A change that sets and removes single pairs of metadata, and leaves the others."""

    set_pairs: Mapping[str, str] = field(default_factory=dict)
    unset_keys: tuple[str, ...] = ()

    def metadata(self, before: Message | None) -> Message | None:
        """Return the session's metadata after the change."""
        after = dict(before or {})
        for key in (*self.set_pairs, *self.unset_keys):
            if not isinstance(after.get(key, ""), str):
                raise InvalidLabel("metadata: the application has a value of its own under a key")
        after |= self.set_pairs
        for key in self.unset_keys:
            after.pop(key, None)
        if self.set_pairs and sum(isinstance(each, str) for each in after.values()) > MAX_PAIRS:
            raise InvalidLabel(f"metadata: a session may have {MAX_PAIRS} pairs")
        return before if after == (before or {}) else after


@click.command(short_help="Set titles, tags, pins, shelves and metadata.")
@ids_argument
@owner_option
@click.option("--title", help="The title.")
@click.option("--no-title", is_flag=True, help="Remove the title.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Add a tag; repeatable.")
@click.option("--untag", "untags", multiple=True, metavar="TAG", help="Remove a tag; repeatable.")
@click.option("--pin/--unpin", default=None, help="Pin it, or no longer.")
@click.option("--shelve/--unshelve", default=None, help="Put it away, or no longer.")
@click.option(
    "--set", "pairs", multiple=True, type=PAIR, help="Set a pair of metadata; repeatable."
)
@click.option("--unset", "keys", multiple=True, metavar="KEY", help="Remove one; repeatable.")
@json_option
@settings_of
def label(
    settings: Settings,
    *,
    ids: tuple[str, ...],
    owner: str | None,
    title: str | None,
    no_title: bool,
    tags: tuple[str, ...],
    untags: tuple[str, ...],
    pin: bool | None,
    shelve: bool | None,
    pairs: tuple[tuple[str, str], ...],
    keys: tuple[str, ...],
    json: bool,
) -> None:
    """Set titles, tags, pins, shelves and metadata; what is not named stays.

    It is no change of the history: the list's order stays, and so does what a prune removes.
    """
    if title is not None and no_title:
        raise click.UsageError("--title and --no-title exclude each other.")
    try:
        checked = make_change(
            title=... if title is None and not no_title else title,
            add_tags=tags,
            remove_tags=untags,
            pinned=pin,
            shelved=shelve,
        )
        set_pairs = check_pairs(dict(pairs))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    change = PairEdit(**vars(checked), set_pairs=set_pairs, unset_keys=keys)
    if change == PairEdit():
        raise click.UsageError("Say what to set: a title, a tag, a pin, a shelf or metadata.")
    names = [*dict.fromkeys(ids)]

    async def write(store: "AdminStore") -> "list[OwnedSession]":
        found = [await existing_session(store, each, owner) for each in names]
        for each in found:
            await store.change_labels(each.info.id, each.owner or "", change)
        return [await existing_session(store, each.info.id, each.owner) for each in found]

    labelled = with_admin_store(settings, "label", write, access="write")
    if json:
        click.echo(as_json({"sessions": [session_json(each) for each in labelled]}))
    else:
        click.echo(f"{len(names)} session{'s' * (len(names) != 1)} labelled")
