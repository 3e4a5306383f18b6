"""``hermes-sessions``: the command that lists, shows, exports, prunes and checks conversations.

It needs click: ``pip install 'hermes_session_mw[cli]'``. Nothing else in the package imports it.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn, TextIO, cast

NO_CLICK = 127
"""The exit code where click is not installed: a shell's own for a command that does not exist."""


def main() -> NoReturn:
    """Run the command, and exit.

    Ctrl-C raises KeyboardInterrupt at once; an event loop's own handler would defer it while
    something blocks.
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
    _replace_closed_streams()
    cli(prog_name="hermes-sessions")
    raise AssertionError  # pragma: no cover  # click exits


def _replace_closed_streams() -> None:
    """Open the null device for standard streams that the caller has closed."""
    sys.stdin = sys.stdin or _null("r")
    sys.stdout = sys.stdout or _null("r")  # read-only, so that a lost result is an error
    sys.stderr = sys.stderr or _null("w")


def _null(mode: str) -> TextIO:
    flags = os.O_RDONLY if mode == "r" else os.O_WRONLY
    return cast("TextIO", open(os.open(os.devnull, flags), mode, closefd=False))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
