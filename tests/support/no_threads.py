"""A system that has no thread to give."""

import threading

import pytest


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every thread fail to start, as Python tells it, until the patch is undone."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
