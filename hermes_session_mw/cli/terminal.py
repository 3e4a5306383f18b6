"""Questions, progress bars and the terminal's width, where there is a terminal."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from hermes_session_mw.cli.errors import Failure

LONG = 100
"""The least number of steps that a progress bar is shown for."""


def width() -> int | None:
    """Return the terminal's columns; None where stdout is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, if stderr is a terminal; call what it yields with the steps done."""
    if length < LONG or not sys.stderr.isatty():
        yield lambda _steps: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def confirm(question: str, *, yes: bool, done: str = "deleted") -> None:
    """Ask before something is ``done``, unless ``yes``; any other answer ends the command."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: give --yes.")
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure(f"nothing was {done}")
