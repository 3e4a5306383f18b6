"""``hermes-sessions``: look at and look after stored conversations from a shell.

It needs click, which ``pip install 'hermes_session_mw[cli]'`` brings. Nothing else in the package
imports this.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn, TextIO, cast

NO_CLICK = 127
"""The exit code where click is not installed: what a shell says of a command that is not there."""


def main() -> NoReturn:
    """Run the command, as its arguments say, and exit.

    Ctrl-C is an exception wherever it comes; an event loop would keep it from what blocks.
    """
    try:
        from hermes_session_mw.cli.app import cli  # noqa: PLC0415  # click is optional
    except ModuleNotFoundError as exc:
        if exc.name != "click":
            raise
        sys.stderr.write("Error: click is missing: pip install 'hermes_session_mw[cli]'\n")
        sys.exit(NO_CLICK)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    _fill_in()
    cli(prog_name="hermes-sessions")
    raise AssertionError  # pragma: no cover  # click exits


def _fill_in() -> None:
    """Put streams where the caller has closed them: nothing to read, and nowhere to write."""
    sys.stdin = sys.stdin or _nothing("r")
    sys.stdout = sys.stdout or _nothing("r")  # so that a lost result is an error
    sys.stderr = sys.stderr or _nothing("w")


def _nothing(mode: str) -> TextIO:
    flags = os.O_RDONLY if mode == "r" else os.O_WRONLY
    return cast("TextIO", open(os.open(os.devnull, flags), mode, closefd=False))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
