"""What may stand between a store and its database, each as a process of our own."""

import json
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

from tests.integration.clusters import galera, galera_node
from tests.support import mariadb, pgbouncer, postgres
from tests.support.database_server import OwnServer
from tests.support.server import ROOT, free_port

POOLERS = ROOT / ".poolers"
NEWER_PGBOUNCER = POOLERS / "pgbouncer"
PGLITE = POOLERS / "pglite" / "node_modules" / "@electric-sql"
DATABASES = ROOT / "docs" / "databases.md"


def version(program: str | Path) -> str:
    """Return the version that a program tells."""
    option = "-v" if str(program).endswith("haproxy") else "--version"
    done = subprocess.run([program, option], check=True, capture_output=True, text=True)
    (found,) = re.findall(r"\d+\.\d+\.\d+", f"{done.stdout}{done.stderr}")[:1]
    return str(found)


def pgpool() -> str | None:
    """Return pgpool-II's program, if the machine has it."""
    return shutil.which("pgpool", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def haproxy() -> str | None:
    """Return HAProxy's program, if the machine has it."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def galera_version() -> str:
    """Return the version of what makes a MariaDB a node, which has no option that tells it."""
    library = Path(galera_node.provider() or "").read_bytes()
    (found, *_) = re.findall(rb"(\d+\.\d+)\(r\w+\)", library)
    return str(found.decode())


def pglite_versions() -> dict[str, str]:
    """Return the versions of PGlite and of its socket server."""
    files = {name: PGLITE / name / "package.json" for name in ("pglite", "pglite-socket")}
    return {name: json.loads(path.read_text())["version"] for name, path in files.items()}


def missing_haproxy() -> str | None:
    """Return what has to be installed first, if anything."""
    return galera.missing() if haproxy() else "no HAProxy: install haproxy"


def missing_pglite() -> str | None:
    """Return what has to be installed first, if anything."""
    is_there = shutil.which("node") and (PGLITE / "pglite-socket").exists()
    return None if is_there else "no PGlite: make .poolers/.installed, with Node and npm"


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
def own_pglite(*options: str) -> Iterator[OwnServer]:
    """Start PGlite behind its socket, on a folder of its own, and stop it after."""
    with tempfile.TemporaryDirectory(prefix="hermes-pglite-") as folder:
        url, log = postgres.LOCAL.set(port=free_port()), Path(folder) / "log"

        def listens(_: URL) -> bool:
            # Not by a connection: it takes one, and may not have noticed yet that it was closed.
            return "PGLiteSocketServer listening" in log.read_text()

        class Server(OwnServer):
            def start(self) -> None:
                log.unlink(missing_ok=True)
                super().start()

        program = PGLITE / "pglite-socket" / "dist" / "scripts" / "server.js"
        own = Server(
            ["node", program, f"--db={folder}/data", f"--port={url.port}", *options],
            url,
            listens,
            user=None,
            stopped_by=signal.SIGTERM,
            log=log,
            environment={},
        )
        with _running(own):
            yield own


@contextmanager
def own_haproxy(nodes: list[URL], *, balances: bool) -> Iterator[URL]:
    """Start HAProxy before the nodes of a cluster, by the page's configuration; stop it after."""
    program = haproxy()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="hermes-haproxy-") as folder:
        url = nodes[0].set(port=free_port())
        file = Path(folder) / "haproxy.cfg"
        file.write_text(_haproxy_configuration(nodes, url, balances=balances))
        mariadb.execute(nodes[0], "CREATE USER IF NOT EXISTS haproxy")
        own = OwnServer(
            [program, "-db", "-f", file],
            url,
            mariadb.answers,
            user=None,
            stopped_by=signal.SIGTERM,
            log=Path(folder) / "log",
            environment={},
        )
        with _running(own):
            yield url


def _haproxy_configuration(nodes: list[URL], url: URL, *, balances: bool) -> str:
    text = DATABASES.read_text().split("```text haproxy.cfg\n")[1].split("```")[0]
    ours = {"bind 127.0.0.1:3306": f"bind 127.0.0.1:{url.port}"} | {
        f"10.0.0.{number}:3306": f"127.0.0.1:{node.port}" for number, node in enumerate(nodes, 1)
    }
    if balances:
        ours[" backup"] = ""
        ours["    option mysql-check"] = "    balance leastconn\n    option mysql-check"
    for page, own in ours.items():
        assert page in text, page
        text = text.replace(page, own)
    return text


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
