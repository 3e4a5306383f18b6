"""Options and arguments that several subcommands share."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from hermes_session_mw.cli.completion import complete_ids
from hermes_session_mw.cli.errors import Failure
from hermes_session_mw.cli.sources import Settings, Source
from hermes_session_mw.cli.text import escaped
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession

F = TypeVar("F", bound=Callable[..., Any])

P = ParamSpec("P")
T = TypeVar("T")


def settings_of(command: Callable[Concatenate[Settings, P], T]) -> Callable[P, T]:
    """Pass the store's `Settings` to a subcommand."""
    return click.make_pass_decorator(Settings)(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", is_flag=True, help="Print JSON.")(command)


def yes_option(command: F) -> F:
    """Add ``--yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")(command)


def owner_option(command: F) -> F:
    """Add ``--owner`` for the owner of one session."""
    option = click.option("--owner", help="The session's owner; '' for none.")
    return option(command)


def owners_options(command: F) -> F:
    """Add ``--owner`` and ``--all-owners``, which is the default."""
    one = click.option("--owner", help="Only this owner's sessions; '' for those without an owner.")
    every = click.option(
        "--all-owners", is_flag=True, help="The sessions of all owners (the default)."
    )
    return one(every(command))


def ids_argument(command: F) -> F:
    """Add one or more ids."""
    argument = click.argument(
        "ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_ids
    )
    return argument(command)


def some_ids_argument(command: F) -> F:
    """Add any number of ids."""
    argument = click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=complete_ids)
    return argument(command)


def owner_filter(owner: str | None, *, all_owners: bool) -> str | None:
    """Return the owner to restrict to, or None for all.

    Raises:
        click.UsageError: both options were given.
    """
    if all_owners and owner is not None:
        raise click.UsageError("--owner and --all-owners exclude each other.")
    return owner


async def session_of(source: Source, session_id: str, owner: str | None) -> OwnedSession | None:
    """Return the session with the id; None where there is none.

    Raises:
        click.UsageError: several owners have a session with the id.
    """
    found = await source.find(session_id, owner)
    if len(found) > 1:
        raise click.UsageError(
            f"{len(found)} owners have a session {escaped(session_id)}: choose one with --owner."
        )
    return found[0] if found else None


def no_such_session(session_id: str) -> Failure:
    """Return the error for a session that does not exist."""
    return Failure(f"there is no session '{escaped(session_id)}'")
