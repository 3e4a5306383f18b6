"""One node of a Galera cluster: a MariaDB server of our own."""

import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pymysql

from tests.integration.clusters.processes import kill_tree, wait_until
from tests.support import mariadb

DATABASE = "hermes"
_PROVIDERS = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")

# How soon the others give a silent node up: sooner than a cluster over a real network should.
_PROVIDER_OPTIONS = {
    "evs.keepalive_period": "PT0.4S",
    "evs.inactive_check_period": "PT0.2S",
    "evs.suspect_timeout": "PT2S",
    "evs.inactive_timeout": "PT4S",
    "evs.install_timeout": "PT4S",
    "gcache.size": "32M",
}


def provider() -> str | None:
    """Return the path of what makes a MariaDB a node, if the machine has it."""
    return next((path for path in _PROVIDERS if Path(path).exists()), None)


class Node:
    """One server of a cluster; killed and started as its test likes."""

    def __init__(self, number: int, folder: Path, ports: list[int], members: str) -> None:
        self.number = number
        self.folder = folder / f"node{number}"
        self.url = mariadb.LOCAL.set(port=ports[0], database=DATABASE)
        self.own_url = self.url.set(database="information_schema")
        self._ports = ports
        self._members = members
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self, user: str | None, data: Path) -> None:
        """Give the node its folder, with a copy of a fresh server's ``data``."""
        self._user = user
        shutil.copytree(data, self.folder / "data")
        (self.folder / "node.cnf").write_text(self._configuration())
        (self.folder / "tmp").mkdir()
        for path in [self.folder, *self.folder.rglob("*")]:
            if user:
                shutil.chown(path, user)

    def start(self, *, new_cluster: bool = False) -> None:
        """Start the server, which joins the cluster, or is the first of a new one."""
        arguments = ["--wsrep-new-cluster"] if new_cluster else []
        if (self.folder / "data" / "grastate.dat").exists():
            # A node that was killed does not know how far it had come unless it is told; then
            # it is sent what it missed, and not all that there is.
            arguments.append(f"--wsrep-start-position={self._recovered_position()}")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(*arguments), user=self._user, cwd="/", stdout=log, stderr=log
            )

    def forget_everything(self) -> None:
        """Take what the stopped node knows of its place, so that it has to be sent everything."""
        (self.folder / "data" / "grastate.dat").unlink()

    def kill(self) -> None:
        """End the server with SIGKILL, as a power cut would."""
        if self._process is not None:
            kill_tree(self._process)

    def status(self, name: str) -> str:
        """Return a status variable's value, or "" from a node that does not answer."""
        with (
            suppress(pymysql.MySQLError, OSError),
            mariadb.connect(self.own_url) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
            return str((cursor.fetchone() or ("", ""))[1])
        return ""

    def is_synced(self, size: int) -> bool:
        """Tell whether the node works, in a cluster of ``size`` nodes that has a quorum."""
        names = ("wsrep_cluster_status", "wsrep_ready", "wsrep_local_state_comment")
        return [self.status(name) for name in names] == ["Primary", "ON", "Synced"] and self.status(
            "wsrep_cluster_size"
        ) == str(size)

    def wait_until_synced(self, size: int = 3) -> None:
        """Wait until the node works as one of ``size``."""
        try:
            wait_until(lambda: self._alive() and self.is_synced(size), 45, f"node {self.number}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log()[-4000:]}") from None

    def bootstrap(self) -> None:
        """Make the node the first of a cluster again: whoever says so knows the others are dead."""
        mariadb.execute(self.own_url, "SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")

    def log(self) -> str:
        """Return what the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def last_transfer(self) -> str:
        """Return how the node got what it had missed: "IST", or all there is: "SST"."""
        transfers: list[str] = re.findall("rsync ([IS]ST) completed on joiner", self.log())
        return transfers[-1]

    def _alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server ended"
        return True

    def _recovered_position(self) -> str:
        command = self._command("--wsrep-recover")
        done = subprocess.run(
            command, check=True, user=self._user, cwd="/", capture_output=True, text=True
        )
        lines = done.stderr.splitlines()
        return [line for line in lines if "Recovered position" in line][-1].split()[-1]

    def _command(self, *arguments: str) -> list[str]:
        program = mariadb.binary()
        assert program is not None
        return [program, f"--defaults-file={self.folder}/node.cnf", *arguments]

    def _configuration(self) -> str:
        client, group, incremental, full = self._ports
        options = {
            "gmcast.listen_addr": f"tcp://127.0.0.1:{group}",
            "ist.recv_addr": f"127.0.0.1:{incremental}",
            **_PROVIDER_OPTIONS,
        }
        return f"""[mysqld]
datadir={self.folder}/data
tmpdir={self.folder}/tmp
socket={self.folder}/socket
pid-file={self.folder}/pid
port={client}
bind-address=127.0.0.1
binlog_format=ROW
innodb_autoinc_lock_mode=2
innodb_flush_log_at_trx_commit=1
innodb_buffer_pool_size=32M
innodb_log_file_size=16M
wsrep_on=ON
wsrep_provider={provider()}
wsrep_provider_options="{";".join(f"{name}={value}" for name, value in options.items())}"
wsrep_cluster_name=hermes
wsrep_cluster_address=gcomm://{self._members}
wsrep_node_name=node{self.number}
wsrep_node_address=127.0.0.1:{group}
wsrep_sst_method=rsync
wsrep_sst_donor=node{self.number - 1},
wsrep_sst_receive_address=127.0.0.1:{full}
wsrep_sync_wait=1
"""
