"""``show``: print one conversation."""

import json as json_
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import click

from hermes_session_mw.cli.completion import complete_ids
from hermes_session_mw.cli.json_output import as_json, plain, session_json
from hermes_session_mw.cli.options import (
    existing_session,
    json_option,
    owner_option,
    settings_of,
)
from hermes_session_mw.cli.sources import Settings, Source, with_source
from hermes_session_mw.cli.text import escaped, escaped_lines, safe_json
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.models import ArchivedMessage
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession


class _Conversation(NamedTuple):
    """The session and messages to print."""

    session: OwnedSession
    history: History
    archived: Sequence[ArchivedMessage] | None


@click.command()
@click.argument("id", metavar="ID", shell_complete=complete_ids)
@owner_option
@click.option("--last", type=click.IntRange(0), metavar="N", help="Only the newest N messages.")
@click.option("--archived", is_flag=True, help="Archived messages too.")
@json_option
@settings_of
def show(
    settings: Settings,
    *,
    id: str,  # noqa: A002  # the argument's name
    owner: str | None,
    last: int | None,
    archived: bool,
    json: bool,
) -> None:
    """Print a conversation."""

    async def read(source: Source) -> _Conversation:
        session = await existing_session(source, id, owner, first_words=True)
        key = session.info.id, session.owner or ""
        history = await source.load(*key, limit=last)
        return _Conversation(session, history, await source.archived(*key) if archived else None)

    found = with_source(settings, read)
    click.echo(_as_json(found) if json else "\n".join(_as_text(found)))


def _as_json(found: _Conversation) -> str:
    shape = {"session": session_json(found.session), "messages": found.history.messages}
    if found.archived is not None:
        shape["archived"] = [asdict(each) for each in found.archived]
    return as_json(shape)


def _as_text(found: _Conversation) -> Iterator[str]:
    info = found.session.info
    turns = "" if found.session.turns is None else f" in {found.session.turns} turns"
    facts = [
        ("id", info.id),
        ("owner", found.session.owner),
        ("title", info.title),
        ("first words", info.first_words),
        ("tags", ", ".join(info.tags)),
        ("pinned", "yes" if info.pinned else ""),
        ("shelved", "yes" if info.shelved else ""),
        ("metadata", _compact(info.metadata) if info.metadata else ""),
        ("forked from", info.parent_id),
        ("messages", f"{info.length}{turns}"),
        ("created", f"{plain(info.created_at)} UTC"),
        ("updated", f"{plain(info.updated_at)} UTC"),
        ("expires", "" if info.expires_at is None else f"{plain(info.expires_at)} UTC"),
    ]
    for name, value in facts:
        if value:
            yield f"{name:11}  {escaped(value)}"
    for each in found.archived or ():
        when = f"archived {plain(each.archived_at)} UTC, {each.reason}"
        yield from _message(each.message, f"[{when}]")
    first = found.history.length - len(found.history.messages) + 1
    for number, message in enumerate(found.history.messages, first):
        yield from _message(message, f"[{number}]")


def _message(message: Message, label: str) -> Iterator[str]:
    if not isinstance(message, dict):  # damage, which is shown as it is
        message = {"content": message}
    others = {key: value for key, value in message.items() if key not in ("role", "content")}
    yield ""
    yield f"{label} {escaped(str(message.get('role', '(no role)')))}"
    for part in _parts(message.get("content")):
        yield from (f"    {line}".rstrip() for line in escaped_lines(part))
    for key, value in others.items():
        yield f"    {escaped(key)}: {_compact(value)}"


def _parts(content: Any) -> Iterator[str]:
    """Yield the texts of a message's content: itself, or its parts, which have many shapes."""
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text
        elif part is not None:
            yield _compact(part)


def _compact(value: Any) -> str:
    return escaped(safe_json(json_.dumps(value, ensure_ascii=False)))
