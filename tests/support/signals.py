"""Ctrl-C, held back for as long as it would leave a process that nobody knows of."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Let nothing interrupt the block: what would have, does so at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which is never interrupted, and may not change the handlers
        return
    arrived: list[int] = []
    before: dict[signal.Signals, Any] = {each: signal.getsignal(each) for each in _HELD}
    for each in _HELD:
        signal.signal(each, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in arrived:
            signal.raise_signal(number)
