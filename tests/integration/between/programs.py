"""What may stand between a store and PostgreSQL, each as a process of our own."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from sqlalchemy import URL

from tests.support import pgbouncer, postgres
from tests.support.database_server import OwnServer
from tests.support.server import ROOT, free_port

POOLERS = ROOT / ".poolers"
NEWER_PGBOUNCER = POOLERS / "pgbouncer"


def version(program: str | Path) -> str:
    """Return the version that a program tells."""
    done = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    (found,) = re.findall(r"\d+\.\d+\.\d+", f"{done.stdout}{done.stderr}")[:1]
    return str(found)


def pgpool() -> str | None:
    """Return pgpool-II's program, if the machine has it."""
    return shutil.which("pgpool", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def missing_pgpool() -> str | None:
    """Return what has to be installed first, if anything."""
    return None if pgpool() else "no pgpool-II: install pgpool2"


def missing_newer_pgbouncer() -> str | None:
    """Return what has to be built first, if anything."""
    built = NEWER_PGBOUNCER.exists()
    return None if built else "no newer PgBouncer: make .poolers/.installed, on Debian and as root"


def missing_pgbouncer() -> str | None:
    """Return what has to be installed first, if anything."""
    return pgbouncer.missing()


@contextmanager
def own_pgpool(servers: list[URL], *, balances: bool, settings: str = "") -> Iterator[URL]:
    """Start pgpool-II before a primary and its standbys, and stop it after."""
    program = pgpool()
    assert program is not None
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="hermes-pgpool-") as folder:
        url = servers[0].set(port=free_port())
        files = {
            "pgpool.conf": _pgpool_configuration(servers, url.port, folder, balances=balances)
            + settings,
            "pool_hba.conf": "host all all 127.0.0.1/32 trust\n",
            "pcp.conf": f"nobody:{secrets.token_hex(16)}\n",
        }
        for name, content in files.items():
            (Path(folder) / name).write_text(content)
        for path in (Path(folder), *Path(folder).iterdir()):
            if user:
                shutil.chown(path, user)
        own = OwnServer(
            [program, "-n", "-f", f"{folder}/pgpool.conf", "-F", f"{folder}/pcp.conf",
             "-a", f"{folder}/pool_hba.conf"],
            url,
            _answers,
            user=user,
            stopped_by=signal.SIGINT,
            log=Path(folder) / "log",
            environment={},
        )  # fmt: skip
        with _running(own):
            yield url


def _pgpool_configuration(
    servers: list[URL], port: int | None, folder: str, *, balances: bool
) -> str:
    options: dict[str, object] = {
        "listen_addresses": "'127.0.0.1'",
        "port": port,
        "unix_socket_directories": f"'{folder}'",
        "pcp_listen_addresses": "''",
        "pcp_port": free_port(),
        "pcp_socket_dir": f"'{folder}'",
        "pid_file_name": f"'{folder}/pgpool.pid'",
        "logdir": f"'{folder}'",
        "work_dir": f"'{folder}'",
        "backend_clustering_mode": "'streaming_replication'",
        "sr_check_user": "'postgres'",
        "num_init_children": 40,
        "load_balance_mode": "on" if balances else "off",
    }
    for number, server in enumerate(servers):
        options[f"backend_hostname{number}"] = f"'{server.host or '127.0.0.1'}'"
        options[f"backend_port{number}"] = server.port or 5432
        # All that may be read from a standby is.
        options[f"backend_weight{number}"] = int(number == len(servers) - 1)
    return "".join(f"{name} = {value}\n" for name, value in options.items())


@contextmanager
def _running(own: OwnServer) -> Iterator[None]:
    try:
        own.start()
        yield
    finally:
        own.stop()


def _answers(url: URL) -> bool:
    with suppress(psycopg.OperationalError):
        postgres.connect(url).close()
        return True
    return False
