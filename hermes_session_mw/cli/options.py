"""Options that several commands have, and what they mean."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from hermes_session_mw.cli.completion import complete_ids
from hermes_session_mw.cli.errors import Failure
from hermes_session_mw.cli.sources import Settings, Source
from hermes_session_mw.cli.text import shown
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession

F = TypeVar("F", bound=Callable[..., Any])

P = ParamSpec("P")
T = TypeVar("T")


def settings_of(command: Callable[Concatenate[Settings, P], T]) -> Callable[P, T]:
    """Hand a command the store's `Settings`."""
    return click.make_pass_decorator(Settings)(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", is_flag=True, help="JSON, for programs.")(command)


def yes_option(command: F) -> F:
    """Add ``--yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def owner_option(command: F) -> F:
    """Add ``--owner``: whose session is meant."""
    option = click.option("--owner", help="Whose it is; '' is nobody's. One look-up, if given.")
    return option(command)


def owners_options(command: F) -> F:
    """Add ``--owner`` and ``--all-owners``, which is the default."""
    one = click.option("--owner", help="Only this owner's; '' for those without one.")
    every = click.option("--all-owners", is_flag=True, help="Of all owners (the default).")
    return one(every(command))


def ids_argument(command: F) -> F:
    """Add one id at least."""
    argument = click.argument(
        "ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_ids
    )
    return argument(command)


def some_ids_argument(command: F) -> F:
    """Add any number of ids."""
    argument = click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=complete_ids)
    return argument(command)


def whose(owner: str | None, *, all_owners: bool) -> str | None:
    """Return the one owner that is meant, or None for all.

    Raises:
        click.UsageError: both were asked for.
    """
    if all_owners and owner is not None:
        raise click.UsageError("--owner and --all-owners cannot both be.")
    return owner


async def session_of(source: Source, session_id: str, owner: str | None) -> OwnedSession | None:
    """Return the one session that is meant; None where there is none.

    Raises:
        click.UsageError: several owners have one under the id.
    """
    found = await source.find(session_id, owner)
    if len(found) > 1:
        raise click.UsageError(
            f"{len(found)} owners have a session {shown(session_id)}: say whose, with --owner."
        )
    return found[0] if found else None


def unknown(session_id: str) -> Failure:
    """Return the failure of a session that there is not."""
    return Failure(f"there is no session '{shown(session_id)}'")
