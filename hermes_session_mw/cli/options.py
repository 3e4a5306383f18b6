"""Options, arguments and parameter types of the subcommands."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import click

from hermes_session_mw.cli.completion import complete_ids
from hermes_session_mw.cli.errors import Failure
from hermes_session_mw.cli.sources import Settings, Source
from hermes_session_mw.cli.text import escaped
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession

_F = TypeVar("_F", bound=Callable[..., Any])
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Decorator(Protocol):
    """Adds an option or an argument to a subcommand."""

    def __call__(self, command: _F, /) -> _F:
        """Return the subcommand."""
        ...


def settings_of(command: Callable[Concatenate[Settings, _P], _T]) -> Callable[_P, _T]:
    """Pass the store's `Settings` to a subcommand."""
    return click.make_pass_decorator(Settings)(command)


json_option: Decorator = click.option("--json", is_flag=True, help="Print JSON.")
yes_option: Decorator = click.option(
    "--yes", "-y", is_flag=True, help="Do not ask for confirmation."
)
owner_option: Decorator = click.option("--owner", help="The session's owner; '' for none.")
"""For the owner of one session."""

ids_argument: Decorator = click.argument(
    "ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_ids
)
some_ids_argument: Decorator = click.argument(
    "ids", nargs=-1, metavar="[ID...]", shell_complete=complete_ids
)


def owners_options(command: _F) -> _F:
    """Add ``--owner`` and ``--all-owners``, which is the default."""
    one = click.option("--owner", help="Only this owner's sessions; '' for those without an owner.")
    every = click.option(
        "--all-owners", is_flag=True, help="The sessions of all owners (the default)."
    )
    return one(every(command))


def owner_filter(owner: str | None, *, all_owners: bool) -> str | None:
    """Return the owner to restrict to, or None for all; refuse both options at once."""
    if all_owners and owner is not None:
        raise click.UsageError("--owner and --all-owners exclude each other.")
    return owner


async def session_of(
    source: Source, session_id: str, owner: str | None, *, first_words: bool = False
) -> OwnedSession | None:
    """Return the session with the id, or None; a usage error where several owners have one."""
    found = await source.find(session_id, owner, first_words=first_words)
    if len(found) > 1:
        raise click.UsageError(
            f"{len(found)} owners have a session {escaped(session_id)}: choose one with --owner."
        )
    return found[0] if found else None


async def existing_session(
    source: Source, session_id: str, owner: str | None, *, first_words: bool = False
) -> OwnedSession:
    """Return the session with the id, as `session_of`; raise ``Failure`` where there is none."""
    session = await session_of(source, session_id, owner, first_words=first_words)
    if session is None:
        raise Failure(f"there is no session '{escaped(session_id)}'")
    return session


_AGE = re.compile(r"([1-9][0-9]{0,8})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d))?", re.ASCII)
_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)


def age_of(value: str) -> timedelta:
    """Return an age such as ``30d``; ``ValueError`` or ``OverflowError`` if it is none."""
    age = _AGE.fullmatch(value)
    if age is None:
        raise ValueError("it is no age")
    return timedelta(**{_UNITS[age[2]]: int(age[1])})


if TYPE_CHECKING:
    _Type = click.ParamType[timedelta | datetime]
else:
    _Type = click.ParamType  # earlier versions of click have it without a parameter


class Age(_Type):
    """An age such as ``30d``, or a time: a date, which is midnight UTC, or a time with its zone."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta | datetime:
        """Return an age, or a time in the past."""
        try:
            if _AGE.fullmatch(value):
                return age_of(value)
            # Python would take other spellings of a time too.
            time = datetime.fromisoformat(value if _TIME.fullmatch(value) else "")
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither an age such as 30d or 12h, nor a time with its zone.",
                param,
                ctx,
            )
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        if not _EPOCH <= time < datetime.now(UTC):
            self.fail(f"{value!r} is in the future, or before 1970.", param, ctx)
        return time


AGE = Age()


if TYPE_CHECKING:
    _PairType = click.ParamType[tuple[str, str]]
else:
    _PairType = click.ParamType


class Pair(_PairType):
    """A pair of metadata, such as ``project=p1``; the value may have a ``=`` too."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the key and the value."""
        if isinstance(value, tuple):  # converted already
            return value
        key, sign, text = value.partition("=")
        if not sign:
            self.fail(f"{value!r} is no pair such as project=p1.", param, ctx)
        return key, text


PAIR = Pair()
