"""The command itself: what is said before a subcommand, and what is caught after it."""

import sys
from contextlib import suppress
from typing import Any

import click

from hermes_session_mw.cli.check import check
from hermes_session_mw.cli.completion import completion
from hermes_session_mw.cli.delete_prune import delete, prune
from hermes_session_mw.cli.errors import reporting
from hermes_session_mw.cli.export import export
from hermes_session_mw.cli.import_ import import_
from hermes_session_mw.cli.list_stats import list_sessions, stats
from hermes_session_mw.cli.show import show
from hermes_session_mw.cli.sources import Settings

DEFAULT_STORE = "sqlite:///hermes_sessions.db"
"""The middleware's own."""

_EPILOG = """\b
Exit codes:
  0    done
  1    not found, not right, or not done: an unknown id, damage found, an answer
       that was no, a file that cannot be read
  2    a command line that cannot be; nobody to ask, and no --yes
  3    the store cannot be used: missing, unreachable, damaged
  4    the store does not have the operation (hermes:PATH)
  5    an id is in use
  127  click is not installed
  130  Ctrl-C
  141  whoever read the output has gone
"""


_STORE = "A SQLAlchemy URL, or hermes:PATH for a Hermes Agent's state.db."
_TIMEOUT = "For each operation on the database."
_SECONDS = click.FloatRange(0, 86_400, min_open=True)
"""What every driver takes."""


class Sessions(click.Group):
    """A group whose errors are lines and codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand."""
        with reporting(lambda: ctx.params["store"]):
            return super().invoke(ctx)


@click.group(cls=Sessions, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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
    """Look at stored conversations, and look after them.

    What only looks makes no file and no table. Without --owner a command is about the sessions of
    all owners.
    """
    # An id that the terminal's encoding does not have is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # something else was put in its place
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    ctx.obj = Settings(store, timeout)


def _said_later(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Take what stands after the subcommand instead of what stood before it."""
    if value is not None:
        before = ctx.find_root().params
        before[param.name or ""] = value
        ctx.obj = Settings(before["store"], before["timeout"])


for _command in (check, delete, export, import_, list_sessions, prune, show, stats):
    _command.params += [
        click.Option([name], callback=_said_later, expose_value=False, **options)
        for name, options in (
            ("--store", {"metavar": "URL", "help": _STORE}),
            ("--timeout", {"type": _SECONDS, "metavar": "SECONDS", "help": _TIMEOUT}),
        )
    ]
    cli.add_command(_command)
cli.add_command(completion)
