"""The command: its options, its subcommands, and its exit codes."""

import json
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import click

from hermes_session_mw.cli.check import check
from hermes_session_mw.cli.completion import completion
from hermes_session_mw.cli.delete_prune import delete, erase, prune
from hermes_session_mw.cli.encryption import decrypt, encrypt, rewrap
from hermes_session_mw.cli.errors import reporting_errors
from hermes_session_mw.cli.expire import expire
from hermes_session_mw.cli.export import export
from hermes_session_mw.cli.import_ import import_
from hermes_session_mw.cli.label import label
from hermes_session_mw.cli.list_stats import list_sessions, stats
from hermes_session_mw.cli.search import search, search_index
from hermes_session_mw.cli.show import show
from hermes_session_mw.cli.sources import Settings
from hermes_session_mw.messages import parse_json

DEFAULT_STORE = "sqlite:///hermes_sessions.db"
"""The middleware's default too."""

_EPILOG = """\b
Exit codes:
  0    success
  1    an unknown id, damage found, a confirmation refused, a file that cannot
       be read or written
  2    a wrong command line; no terminal to ask on, and no --yes
  3    the store cannot be used: missing, unreachable or damaged
  4    the store does not support the operation (hermes:PATH)
  5    an id is in use
  127  click is not installed
  130  interrupted by Ctrl-C
  141  the reader of the output has closed it
"""


_STORE = "A SQLAlchemy URL, or hermes:PATH for a Hermes Agent's state.db."
_KEYS_FILE = "The file of the keys of an encrypted store; else HERMES_ENCRYPTION_KEYS has them."
_TIMEOUT = "Seconds for each operation on the database."
_SECONDS = click.FloatRange(0, 86_400, min_open=True)
"""The range that every driver accepts."""


class CommandGroup(click.Group):
    """A group that turns errors into a line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand."""
        with reporting_errors(lambda: ctx.params["store"]):
            return super().invoke(ctx)


def _tell_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001  # as click calls it
    if not value or ctx.resilient_parsing:
        return
    uses_msgspec = parse_json is not json.loads
    parser = f"msgspec {version('msgspec')}" if uses_msgspec else "the standard library"
    click.echo(f"{ctx.info_name} {version('hermes_session_mw')}\nJSON is parsed by {parser}.")
    ctx.exit()


@click.group(
    cls=CommandGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--store", envvar="HERMES_STORE", default=DEFAULT_STORE, show_default=True, show_envvar=True,
    metavar="URL", help=_STORE,
)  # fmt: skip
@click.option(
    "--timeout", type=_SECONDS, default=60.0, show_default=True, metavar="SECONDS", help=_TIMEOUT,
)  # fmt: skip
@click.option(
    "--keys-file", envvar="HERMES_KEYS_FILE", show_envvar=True, metavar="PATH", help=_KEYS_FILE,
)  # fmt: skip
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version,
    help="Show the version, and who parses JSON, and exit.",
)  # fmt: skip
@click.pass_context
def cli(ctx: click.Context, *, store: str, timeout: float, keys_file: str | None) -> None:
    """List, show, export, import, prune and check stored conversations.

    Only import creates a file or tables. Without --owner, a subcommand works on the sessions of all
    owners.
    """
    # So that an id which the terminal's encoding cannot represent does not raise.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a replaced stream, as in a test
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    ctx.obj = Settings(store, timeout, keys_file)


def _override(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Let an option after the subcommand override the one before it."""
    if value is not None:
        before = ctx.find_root().params
        before[param.name or ""] = value
        ctx.obj = Settings(before["store"], before["timeout"], before["keys_file"])


for _command in (
    check,
    decrypt,
    delete,
    encrypt,
    erase,
    expire,
    export,
    import_,
    label,
    list_sessions,
    prune,
    rewrap,
    search,
    search_index,
    show,
    stats,
):
    _command.params += [
        click.Option([name], callback=_override, expose_value=False, **options)
        for name, options in (
            ("--store", {"metavar": "URL", "help": _STORE}),
            ("--timeout", {"type": _SECONDS, "metavar": "SECONDS", "help": _TIMEOUT}),
            ("--keys-file", {"metavar": "PATH", "help": _KEYS_FILE}),
        )
    ]
    cli.add_command(_command)
cli.add_command(completion)
