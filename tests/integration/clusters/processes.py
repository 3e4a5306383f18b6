"""What both kinds of cluster need: ports that stay theirs, and an end that leaves nothing."""

import os
import pwd
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen


def server_user(name: str) -> str | None:
    """Return whom to run a server as: database servers refuse to be run by root."""
    return name if os.geteuid() == 0 else None


@contextmanager
def server_folder(prefix: str, user: str | None) -> Iterator[Path]:
    """Yield a folder of the user's; remove it when nothing runs on it any more."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        if user:
            os.chown(name, pwd.getpwnam(user).pw_uid, -1)
        try:
            yield Path(name)
        finally:
            # What a server had started and did not live to see end: a state transfer's rsync.
            wait_until(lambda: not _kill_what_names(name), 20, f"the end of what uses {name}")


def kill_tree(process: Popen[bytes]) -> None:
    """End a process and all that it started with SIGKILL, and wait until they are gone."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGSTOP)  # so that it starts no others meanwhile
    tree = [process.pid, *_descendants(process.pid)]
    for pid in tree:
        _kill(pid)
    process.wait()
    wait_until(lambda: not any(map(_runs, tree)), 20, "the killed processes' end")


def wait_until(is_so: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until it is so, or fail and say what was waited for."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"waited {seconds} seconds for {what}"
        time.sleep(0.1)


def _kill_what_names(folder: str) -> list[int]:
    left = [pid for pid in _pids() if folder.encode() in _read(pid, "cmdline")]
    for pid in left:
        _kill(pid)
    return left


def _descendants(parent: int) -> Iterator[int]:
    for pid in _pids():
        if _stat(pid)[1:2] == [b"%d" % parent]:
            yield pid
            yield from _descendants(pid)


def _runs(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], [b"Z"])  # nobody may have taken note of its end yet


def _stat(pid: int) -> list[bytes]:
    """Return the state, the parent and so on, which come after the name in parentheses."""
    return _read(pid, "stat").rpartition(b")")[2].split()


def _pids() -> list[int]:
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in numbers if pid != os.getpid()]


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
