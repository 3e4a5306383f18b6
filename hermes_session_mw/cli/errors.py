"""How the command ends where something is wrong: one line on stderr, and a code for scripts."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation

import click

from hermes_session_mw.cli.text import shown
from hermes_session_mw.database.url_masking import masked
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
"""Something was not found, or not right, or was not done."""
USAGE = 2
"""The command line cannot be; click's own code."""
STORE = 3
"""The store cannot be used: missing, unreachable, damaged, without its tables."""
UNSUPPORTED = 4
"""The store does not have the operation."""
CONFLICT = 5
"""A session's id is in use."""
INTERRUPTED = 130
"""Ctrl-C: 128 and the signal's number, as shells have it."""
PIPE = 141
"""Whoever read the output has gone: 128 and SIGPIPE's number."""

CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((NotSupported,), UNSUPPORTED),
    ((SessionConflict, SessionDeleted, SessionBusy), CONFLICT),
    ((StoreError,), STORE),
    ((ConfigurationError, InvalidKey), USAGE),
    ((HermesSessionError, OSError), PROBLEM),
)
"""The code for each error; the first that fits."""


class Failure(click.ClickException):
    """What ends the command with a message and a code."""

    def __init__(self, message: str, code: int = PROBLEM) -> None:
        super().__init__(message)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click asks for it, and sets none
        """The code that click exits with."""
        return self.code


@contextmanager
def reporting(url: Callable[[], str]) -> Iterator[None]:
    """Turn errors into their line and code; ``url`` tells the store's, to hide its password."""
    try:
        yield
        sys.stdout.flush()  # here a pipe that is closed can be told from an error
    except KeyboardInterrupt:
        click.echo("Error: interrupted", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (HermesSessionError, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
            _forget_output()
            raise click.exceptions.Exit(PIPE) from None
        text = shown(masked(_said(exc), url()))
        code = next(code for errors, code in CODES if isinstance(exc, errors))
        raise Failure(text, code) from None


def _said(exc: Exception) -> str:
    if isinstance(exc, UnsupportedOperation):
        return "the standard output is closed"
    if isinstance(exc, OSError) and not isinstance(exc, HermesSessionError):
        return f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)
    return " ".join(str(exc).split("\n"))


def _forget_output() -> None:
    """Let nothing be written any more, which the interpreter would try once again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
