"""Turns errors into one line on stderr and an exit code."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation

import click

from hermes_session_mw.cli.text import escaped
from hermes_session_mw.exceptions import (
    ConfigurationError,
    HermesSessionError,
    InvalidKey,
    NotSupported,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    StoreError,
)

PROBLEM = 1
"""Not found, invalid, or not done."""
USAGE = 2
"""The command line is wrong; click's own code."""
STORE = 3
"""The store cannot be used: missing, unreachable, damaged, without its tables."""
UNSUPPORTED = 4
"""The store does not support the operation."""
CONFLICT = 5
"""A session's id is in use."""
INTERRUPTED = 130
"""Ctrl-C: 128 and the signal's number, as shells have it."""
PIPE = 141
"""The reader of the output has closed it: 128 and SIGPIPE's number."""

CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((NotSupported,), UNSUPPORTED),
    ((SessionConflict, SessionDeleted, SessionBusy), CONFLICT),
    ((StoreError,), STORE),
    ((ConfigurationError, InvalidKey), USAGE),
    ((HermesSessionError, OSError), PROBLEM),
)
"""The exit code of each error; the first row that matches counts."""


class Failure(click.ClickException):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, code: int = PROBLEM) -> None:
        super().__init__(message)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click asks for it, and sets none
        """The code that click exits with."""
        return self.code


@contextmanager
def reporting_errors(url: Callable[[], str]) -> Iterator[None]:
    """Turn errors into a line and an exit code; the password in ``url()`` is masked."""
    try:
        yield
        sys.stdout.flush()  # a closed pipe raises here, and not at exit
    except KeyboardInterrupt:
        click.echo("Error: interrupted", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (HermesSessionError, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
            _discard_output()
            raise click.exceptions.Exit(PIPE) from None
        # Only an error needs SQLAlchemy, which would more than double the time of the help.
        from hermes_session_mw.database.url_masking import masked  # noqa: PLC0415

        text = escaped(masked(_message(exc), url()))
        code = next(code for errors, code in CODES if isinstance(exc, errors))
        raise Failure(text, code) from None


@contextmanager
def refusing_values() -> Iterator[None]:
    """Turn a ``ValueError`` into one of the command line, unless it is an error of the package."""
    try:
        yield
    except ValueError as exc:
        if isinstance(exc, HermesSessionError):
            raise
        raise click.UsageError(str(exc)) from None


def _message(exc: Exception) -> str:
    if isinstance(exc, UnsupportedOperation):
        return "the standard output is closed"
    if isinstance(exc, OSError) and not isinstance(exc, HermesSessionError):
        return f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)
    return " ".join(str(exc).split("\n"))


def _discard_output() -> None:
    """Discard the buffered output, which the interpreter would write again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
