"""What is shown to a person, where there is one: questions, progress, and the terminal's width."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from hermes_session_mw.cli.errors import Failure

LONG = 100
"""Steps from which on a person wants to see them go by."""


def width() -> int | None:
    """Return the terminal's columns; None where the output is read by something else."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Give what is told of each step; a bar on stderr shows them, if that is a terminal."""
    if length < LONG or not sys.stderr.isatty():
        yield _nothing
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is deleted, unless ``yes``.

    Raises:
        click.UsageError: there is nobody to ask.
        Failure: the answer was not yes.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to ask: give --yes.")
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was deleted")


def _nothing(_steps: int) -> None:
    pass
