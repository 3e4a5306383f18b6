"""A database server of our own, which can die as in a crash and come back where it was."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import URL

from tests.support.signals import held_back


class OwnServer:
    """A server that is started, killed, started again, and stopped in the end.

    ``command`` starts it in the foreground, ``answers`` tells whether it lets us in at ``url``,
    ``user`` is whom it runs as, and ``stopped_by`` the signal that ends it at once yet lets it
    tidy up what outlives a process. Its output goes to ``log``. ``patience`` is the seconds that it
    may take to answer.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        url: URL,
        answers: Callable[[URL], bool],
        *,
        user: str | None,
        stopped_by: signal.Signals,
        log: Path,
        environment: Mapping[str, str],
        patience: float = 60,
    ) -> None:
        self.url = url
        self._command = command
        self._answers = answers
        self._user = user
        self._stopped_by = stopped_by
        self._log = log
        self._environment = {**os.environ, **environment}
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the data and the port that it always has, and wait until it answers."""
        with self._log.open("ab") as log, held_back():
            self._process = subprocess.Popen(
                self._command,
                user=self._user,
                env=self._environment,
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who then stop it
            )
        deadline = time.monotonic() + self._patience
        while not self._answers(self.url):
            assert self._process.poll() is None, f"the server ended:\n{self._tail()}"
            assert time.monotonic() < deadline, f"the server does not answer:\n{self._tail()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """End every process of it with SIGKILL, so that nothing of it has time for anything."""
        with held_back():  # one that is half dead can be neither stopped nor started
            self._kill()

    def shut_down(self, by: signal.Signals) -> None:
        """End it in order, by the signal that asks for that, and wait until it has."""
        assert self._process is not None
        self._process.send_signal(by)
        self._process.wait(timeout=60)

    def stop(self) -> None:
        """End it, if it runs; nothing of its data is needed any more."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            # What it had of the machine's shared memory is freed by nobody but its next start.
            with suppress(AssertionError):
                self.start()
        self._process.send_signal(self._stopped_by)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()

    def _kill(self) -> None:
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)  # or it starts more of them while they are counted
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        children = _children(process.pid)
        for pid in (*children, process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        # PostgreSQL does not start while one that is dying still holds the shared memory.
        deadline = time.monotonic() + self._patience
        while any(map(_runs, children)):
            assert time.monotonic() < deadline, f"of {children} some do not end"
            time.sleep(0.005)

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # One that nobody has waited for yet holds nothing any more.
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
