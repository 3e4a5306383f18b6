"""The command: its options, its subcommands, and its exit codes."""

import sys
from contextlib import suppress
from typing import Any

import click

from hermes_session_mw.cli.check import check
from hermes_session_mw.cli.completion import completion
from hermes_session_mw.cli.delete_prune import delete, prune
from hermes_session_mw.cli.errors import reporting_errors
from hermes_session_mw.cli.export import export
from hermes_session_mw.cli.import_ import import_
from hermes_session_mw.cli.list_stats import list_sessions, stats
from hermes_session_mw.cli.show import show
from hermes_session_mw.cli.sources import Settings

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
_TIMEOUT = "Seconds for each operation on the database."
_SECONDS = click.FloatRange(0, 86_400, min_open=True)
"""The range that every driver accepts."""


class CommandGroup(click.Group):
    """A group that turns errors into a line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand."""
        with reporting_errors(lambda: ctx.params["store"]):
            return super().invoke(ctx)


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
@click.version_option(package_name="hermes_session_mw", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, *, store: str, timeout: float) -> None:
    """List, show, export, import, prune and check stored conversations.

    Only import creates a file or tables. Without --owner, a subcommand works on the sessions of all
    owners.
    """
    # So that an id which the terminal's encoding cannot represent does not raise.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a replaced stream, as in a test
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    ctx.obj = Settings(store, timeout)


def _override(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Let an option after the subcommand override the one before it."""
    if value is not None:
        before = ctx.find_root().params
        before[param.name or ""] = value
        ctx.obj = Settings(before["store"], before["timeout"])


for _command in (check, delete, export, import_, list_sessions, prune, show, stats):
    _command.params += [
        click.Option([name], callback=_override, expose_value=False, **options)
        for name, options in (
            ("--store", {"metavar": "URL", "help": _STORE}),
            ("--timeout", {"type": _SECONDS, "metavar": "SECONDS", "help": _TIMEOUT}),
        )
    ]
    cli.add_command(_command)
cli.add_command(completion)
