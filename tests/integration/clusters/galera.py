"""A MariaDB Galera cluster of three nodes on this machine; as a program: ``make galera``."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL

from tests.integration.clusters.galera_node import DATABASE, Node, provider
from tests.integration.clusters.processes import server_folder, server_user
from tests.support import mariadb
from tests.support.server import free_port

_PROGRAMS = ("mariadb-install-db", "rsync", "my_print_defaults", "ps")


def missing() -> str | None:
    """Return what has to be installed before a cluster can be started, or None."""
    if mariadb.binary() is None or not all(map(shutil.which, _PROGRAMS)):
        return "no MariaDB with rsync: install mariadb-server, rsync and procps"
    if not any(map(shutil.which, ("ss", "lsof"))):
        return "neither ss nor lsof, which a state transfer needs: install iproute2"
    if provider() is None:
        return "no Galera: install galera-4"
    return None


class Cluster:
    """Three nodes, each of which has everything."""

    def __init__(self, folder: Path, user: str | None) -> None:
        ports = [free_port() for _ in range(12)]
        members = ",".join(f"127.0.0.1:{port}" for port in ports[1::4])
        self.nodes = [
            Node(number, folder, ports[4 * number : 4 * number + 4], members) for number in range(3)
        ]
        self._folder = folder
        self._user = user

    @property
    def urls(self) -> list[URL]:
        """The nodes' URLs."""
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Start all nodes; the first is the one that the others copy."""
        mariadb.prepare(self._folder, self._user)
        for node in self.nodes:
            node.prepare(self._user, self._folder / "data")
        first, *others = self.nodes
        first.start(new_cluster=True)
        first.wait_until_synced(1)
        mariadb.execute(first.own_url, f"CREATE DATABASE {DATABASE}")
        for size, node in enumerate(others, 2):  # who comes while another does has to wait longer
            node.start()
            node.wait_until_synced(size)
        self.wait_until_synced()

    def wait_until_synced(self) -> None:
        """Wait until all three work together."""
        for node in self.nodes:
            node.wait_until_synced()

    def kill(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Yield a cluster that runs, and leave nothing of it."""
    user = server_user("mysql")
    with server_folder("hermes-galera-", user) as folder:
        running = Cluster(folder, user)
        try:
            running.start()
            yield running
        finally:
            running.kill()


def main() -> None:
    """Run a cluster until Ctrl-C, for whoever wants to try one."""
    problem = missing()
    if problem:
        raise SystemExit(problem)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), cluster() as running:
        for url in running.urls:
            print(url, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
