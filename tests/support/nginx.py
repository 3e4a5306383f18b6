"""A real nginx, as a process of the test's own."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.support.requirements import needs
from tests.support.server import HUNG


def program() -> str:
    """Return where nginx is, or say that the machine has none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        needs("no nginx: install nginx-light")
    return str(found)


@contextmanager
def nginx(configuration: str, folder: Path, url: str, *, main: str = "") -> Iterator[None]:
    """Run it with a ``configuration`` for its http block, until the block ends.

    ``main`` has directives for outside of that. It answers at ``url`` when the block begins, and
    keeps all that it writes in ``folder``, its process's number in ``nginx.pid``.
    """
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    file = folder / "nginx.conf"
    file.write_text(
        "\n".join(
            [
                # As root it would have workers of another user, who may not go into the folder.
                "user root;" if os.geteuid() == 0 else "",
                "daemon off;",
                "worker_processes 1;",
                main,
                f"pid {folder}/nginx.pid;",
                "events {}",
                "http {",
                *(f"{kind}_temp_path {folder}/{kind};" for kind in kinds),
                configuration,
                "}",
            ]
        )
    )
    log = folder / "nginx.log"
    command = [program(), "-p", str(folder), "-e", str(log), "-c", str(file)]
    with (folder / "nginx.out").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_it_answers(url, process, folder)
            yield
        finally:
            process.terminate()
            process.wait(timeout=HUNG)


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, (folder / "nginx.out").read_text()
        try:
            httpx2.get(url)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError((folder / "nginx.log").read_text())
