"""Four uvicorn workers over one database, and nginx before them: each part can be cut off."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.long.cuts.journal import Journal
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.nginx import nginx
from tests.support.server import ROOT, free_port

WORKERS = 4

# A POST may be sent again to another worker, because it has a key. No worker is left out for a
# while after a failure: the next request may need it.
_CONFIGURATION = """
upstream workers {{
    {servers}
    keepalive 16;
}}
server {{
    listen 127.0.0.1:{port};
    access_log off;
    location / {{
        proxy_pass http://workers;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_next_upstream error timeout non_idempotent;
    }}
}}
"""


class Site:
    """The servers.

    Attributes:
        port: where nginx listens.
        alive: the numbers of the workers that answer.
        proxies: the proxies between nginx and every second worker.
    """

    def __init__(self, folder: Path, databases: Sequence[str], journal: Journal) -> None:
        self.port: int = free_port()
        self.alive: set[int] = set()
        self.proxies: list[CuttingProxy] = []
        self._folder, self._databases, self._journal = folder, databases, journal
        self._ports = [free_port() for _ in range(WORKERS)]
        self._processes: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self._names = itertools.count(1)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run nginx until the block ends, and then stop whatever runs."""
        with ExitStack() as stack:
            stack.callback(self._end)
            ports = list(self._ports)
            for number in range(1, WORKERS, 2):
                proxy = stack.enter_context(cutting(self._ports[number]))
                self.proxies.append(proxy)
                ports[number] = proxy.port
            servers = "\n".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
            text = _CONFIGURATION.format(servers=servers, port=self.port)
            url = f"http://127.0.0.1:{self.port}/ready"
            main = "worker_shutdown_timeout 1s;"
            stack.enter_context(nginx(text, self._folder, url, main=main))
            yield

    async def start(self, number: int) -> None:
        """Start a worker, and wait until it answers."""
        name, process = self._processes[number] = self._spawn(number)
        while not await _listens(self._ports[number]):
            assert process.poll() is None, f"{name} has ended: see workers.log"
            await asyncio.sleep(0.05)
        self.alive.add(number)

    def _spawn(self, number: int) -> "tuple[str, subprocess.Popen[bytes]]":
        name = f"w{next(self._names)}"
        command = [sys.executable, "-m", "uvicorn", "--factory", "tests.long.cuts.app:create_app"]
        command += ["--port", str(self._ports[number]), "--log-level", "warning"]
        variables = {
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "CUTS_WORKER": name,
            "CUTS_JOURNAL": str(self._folder / "journal"),
            "CUTS_DATABASE": self._databases[number % len(self._databases)],
        }
        with (self._folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--timeout-graceful-shutdown", "1"],
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
            )
        return name, process

    def kill(self, number: int) -> None:
        """Kill a worker."""
        name, process = self._processes[number]
        self.alive.discard(number)
        self._journal.note("killing", victim=name)
        process.kill()
        process.wait()

    async def stop(self, number: int) -> None:
        """Tell a worker to end, and wait until it has."""
        name, process = self._processes[number]
        self.alive.discard(number)
        self._journal.note("stopping", victim=name)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)

    def pause(self, number: int) -> None:
        """Let a worker stand still; after six seconds it has lost its leases, and does not know."""
        name, process = self._processes[number]
        self.alive.discard(number)
        self._journal.note("pausing", victim=name)
        process.send_signal(signal.SIGSTOP)

    async def go_on(self, number: int, after: float) -> None:
        """Let a worker that stands still go on after some seconds."""
        name, process = self._processes[number]
        await asyncio.sleep(after)
        process.send_signal(signal.SIGCONT)
        self._journal.note("continuing", victim=name)
        await asyncio.sleep(1)  # in which it learns of it
        self.alive.add(number)

    def reload_nginx(self) -> None:
        """Have nginx replace its process, which cuts what it still has after a second."""
        os.kill(self._nginx(), signal.SIGHUP)

    def crash_nginx(self) -> None:
        """Kill the processes of nginx that have connections; it starts another."""
        master = self._nginx()
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        for pid in children.split():
            with suppress(ProcessLookupError):  # one that was replaced
                os.kill(int(pid), signal.SIGKILL)

    def reset(self, rng: random.Random) -> None:
        """Reset all connections of a proxy."""
        rng.choice(self.proxies).reset()

    async def close(self, rng: random.Random) -> None:
        """Close all connections of a proxy, and those that come within a moment."""
        proxy = rng.choice(self.proxies)
        proxy.cut()
        await asyncio.sleep(rng.uniform(0, 0.3))
        proxy.mend()

    def _nginx(self) -> int:
        return int((self._folder / "nginx.pid").read_text())

    def _end(self) -> None:
        for _, process in self._processes.values():
            process.kill()
        for _, process in self._processes.values():
            process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
