"""Seven proxies as processes of the test's own, by the configurations that docs/proxies.md has."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from time import sleep
from typing import Literal

from tests.support.certificates import certificate
from tests.support.requirements import needs
from tests.support.server import ROOT, free_port

PAGE = ROOT / "docs" / "proxies.md"
ROOTS = ("/usr/sbin", "/usr/bin", "/usr/local/sbin")


Kind = Literal["as it comes", "right", "caching"]
"""Which of a proxy's configurations."""


@dataclass(frozen=True)
class Ports:
    """Where a proxy listens, what stands behind it, and the process once it runs."""

    plain: int
    tls: int
    app: int
    process: "subprocess.Popen[bytes] | None" = None


@dataclass(frozen=True)
class Program:
    """One proxy.

    Attributes:
        name: the heading of its configuration.
        program: the executable.
        command: its arguments in the foreground, by the configuration's file and its folder.
        package: Debian's name of it.
        version: the arguments that print its version.
        replaced: pairs of what is in the page's configuration, and what it is as it comes.
        ours: pairs of what is in the page's configuration, and what it is in a test.
        frame: puts the page's configuration into a whole one, by the text and the folder.
        tls: whether it takes TLS.
        is_cache: whether it is a cache as it comes.
    """

    name: str
    program: str
    command: Callable[[Path, Path, Ports], Sequence[str]]
    package: str
    version: Sequence[str]
    replaced: Sequence[tuple[str, str]] = ()
    ours: Sequence[tuple[str, str]] = ()
    frame: Callable[[str, Path], str] = field(default=lambda text, _: text)
    tls: bool = True
    is_cache: bool = False

    def path(self) -> str | None:
        """Return where it is, or None."""
        places = os.pathsep.join((os.environ.get("PATH", ""), *ROOTS))
        return shutil.which(self.program, path=places)

    def read_version(self) -> str:
        """Return its version."""
        done = subprocess.run(
            [str(self.path()), *self.version], capture_output=True, text=True, check=False
        )
        (found, *_) = re.findall(r"\d+\.\d+(?:\.\d+)*", done.stdout + done.stderr)
        return str(found)

    @property
    def caches(self) -> bool:
        """Whether it can be made a cache."""
        return self.is_cache or f"### {self.name}" in _blocks()

    def configuration(self, folder: Path, ports: Ports, kind: Kind) -> str:
        """Return the page's, with a test's ports and paths."""
        is_other = kind == "caching" and not self.is_cache
        text = _blocks()[f"{'###' if is_other else '##'} {self.name}"]
        for before, after in self.replaced if kind == "as it comes" else ():
            assert before in text, (self.name, before)
            text = text.replace(before, after)
        for before, after in self.ours:
            assert is_other or before in text, (self.name, before)
            text = text.replace(before, after)
        values = {
            "127.0.0.1:8000": f"127.0.0.1:{ports.app}",
            "APP_PORT": str(ports.app),
            "PLAIN_PORT": str(ports.plain),
            "TLS_PORT": str(ports.tls),
            "/etc/ssl/chat.pem": f"{folder}/both.pem",
            "/etc/ssl/chat.key": f"{folder}/both.pem",
            "/var/cache/nginx/chat": f"{folder}/cache",
            "/var/cache/apache2/mod_cache_disk": f"{folder}/cache",
        }
        for before, after in values.items():
            text = text.replace(before, after)
        return self.frame(text, folder)


@cache
def _blocks() -> dict[str, str]:
    """Return the configurations by their headings, with the number signs."""
    block = re.compile(r"^(##+ \w+)\n+```[a-z][^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return dict(block.findall(PAGE.read_text()))


def _nginx(text: str, folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    # As root it would have workers of another user, who may not go into the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return (
        f"{user}\ndaemon off;\nworker_processes 1;\npid {folder}/pid;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{text}\n}}\n"
    )


def _haproxy(text: str, folder: Path) -> str:
    return f"global\n    log stdout format raw local0 err\n{text}"


def _apache(text: str, folder: Path) -> str:
    modules = (
        "mpm_event", "authz_core", "headers", "proxy", "proxy_http", "proxy_http2", "http2", "ssl",
        "socache_shmcb", "cache", "cache_disk",
    )  # fmt: skip
    loaded = "".join(
        f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n" for m in modules
    )
    as_root = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    return (
        f"{loaded}{as_root}ServerName localhost\nServerRoot {folder}\nPidFile {folder}/pid\n"
        f"DefaultRuntimeDir {folder}\nErrorLog {folder}/error.log\nSSLSessionCache none\n"
        f"StartServers 1\nServerLimit 1\nThreadsPerChild 25\nMaxRequestWorkers 25\n{text}"
    )


def _caddy(text: str, folder: Path) -> str:
    return f"{{\nadmin off\nauto_https off\nstorage file_system {folder}/caddy\n}}\n{text}"


def _squid(text: str, folder: Path) -> str:
    return (
        f"{text}\npid_filename {folder}/pid\ncache_log {folder}/cache.log\naccess_log none\n"
        f"coredump_dir {folder}\nshutdown_lifetime 0 seconds\nvisible_hostname localhost\n"
        "pinger_enable off\n"
    )


def _varnish_command(file: Path, folder: Path, ports: Ports) -> list[str]:
    jail = ["-j", "none"] if os.geteuid() == 0 else []
    return [
        *jail, "-F", "-f", str(file), "-n", f"{folder}/varnish", "-s", "malloc,16m",
        "-a", f"127.0.0.1:{ports.plain},HTTP", "-p", "feature=+http2",
        "-p", "thread_pool_min=10", "-p", "vcc_allow_inline_c=off",
    ]  # fmt: skip


PROGRAMS = [
    Program(
        "nginx", "nginx",
        lambda file, folder, _: ["-p", str(folder), "-e", f"{folder}/error.log", "-c", str(file)],
        "nginx-light", ["-v"],
        replaced=[
            ("client_max_body_size 8m;", ""),
            ("proxy_http_version 1.1;", ""),
            ("proxy_set_header Connection $connection_upgrade;", ""),
            ("proxy_set_header Upgrade    $http_upgrade;", ""),
            ("proxy_buffering    off;", ""),
            ("proxy_set_header Host              $host;", ""),
            ("proxy_set_header X-Forwarded-For   $remote_addr;", ""),
            ("proxy_set_header X-Forwarded-Proto $scheme;", ""),
        ],
        ours=[
            ("listen 80;", "listen 127.0.0.1:PLAIN_PORT;"),
            ("listen 443 ssl", "listen 127.0.0.1:TLS_PORT ssl"),
        ],
        frame=_nginx,
    ),
    Program(
        "HAProxy", "haproxy", lambda file, _, __: ["-f", str(file)], "haproxy", ["-v"],
        replaced=[
            ("option http-no-delay", ""),
            ("option abortonclose", ""),
            ("http-request set-header X-Forwarded-For %[src]", ""),
            ("http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]", ""),
        ],
        ours=[("bind :80", "bind 127.0.0.1:PLAIN_PORT"), ("bind :443", "bind 127.0.0.1:TLS_PORT")],
        frame=_haproxy,
    ),
    Program(
        "Apache", "apache2", lambda file, _, __: ["-X", "-f", str(file)], "apache2", ["-v"],
        replaced=[
            (" upgrade=websocket", ""),
            ("ProxyPreserveHost On", ""),
            ("RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME}", ""),
        ],
        ours=[
            ("Listen 80", "Listen 127.0.0.1:PLAIN_PORT"),
            ("Listen 443", "Listen 127.0.0.1:TLS_PORT"),
            ("<VirtualHost *:443>", "<VirtualHost *:TLS_PORT>"),
            ("<VirtualHost *:80>", "<VirtualHost *:PLAIN_PORT>"),
        ],
        frame=_apache,
    ),
    Program(
        "Caddy", "caddy",
        lambda file, _, __: ["run", "--adapter", "caddyfile", "--config", str(file)],
        "caddy", ["version"],
        ours=[("http://:80", "http://:PLAIN_PORT"), ("https://:443", "https://localhost:TLS_PORT")],
        frame=_caddy,
    ),
    Program(
        "Varnish", "varnishd", _varnish_command, "varnish", ["-V"],
        replaced=[
            ("return (pipe);", ""),
            ("set beresp.uncacheable = true;", ""),
        ],
        ours=[('.port = "8000"', '.port = "APP_PORT"')],
        tls=False, is_cache=True,
    ),
    Program(
        "Squid", "squid", lambda file, _, __: ["-N", "-f", str(file)], "squid", ["-v"],
        replaced=[("http_upgrade_request_protocols websocket allow all", "")],
        ours=[
            ("http_port 80", "http_port 127.0.0.1:PLAIN_PORT"),
            ("parent 8000", "parent APP_PORT"),
        ],
        frame=_squid, tls=False, is_cache=True,
    ),
    Program(
        "lighttpd", "lighttpd", lambda file, _, __: ["-D", "-f", str(file)], "lighttpd", ["-v"],
        replaced=[
            ('proxy.header = ( "upgrade" => "enable" )', ""),
            ("server.stream-response-body = 1", ""),
        ],
        ours=[
            ("server.port          = 80", 'server.bind = "127.0.0.1"\nserver.port = PLAIN_PORT'),
            ('"/var/www/html"', '"/tmp"'),
            ('"port" => 8000', '"port" => APP_PORT'),
        ],
        tls=False,
    ),
]  # fmt: skip


@contextmanager
def running(program: Program, folder: Path, app_port: int, kind: Kind = "right") -> Iterator[Ports]:
    """Run a proxy before ``app_port`` until the block ends; it answers when the block begins."""
    path = program.path()
    if path is None:
        needs(f"no {program.program}: install {program.package}")
    folder.mkdir(parents=True)
    ports = Ports(free_port(), free_port(), app_port)
    (folder / "both.pem").write_text(certificate())
    file = folder / "configuration"
    file.write_text(program.configuration(folder, ports, kind))
    (folder / "cache").mkdir()
    for each in (folder, *folder.iterdir()):  # some leave root's rights
        each.chmod(0o777 if each.is_dir() else 0o644)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [str(path), *program.command(file, folder, ports)],
            stdout=output, stderr=subprocess.STDOUT, cwd=folder,
            env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
        try:
            _wait_until_it_answers(process, ports, folder)
            yield replace(ports, process=process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:  # Apache with -X waits for its client
                process.kill()
                process.wait(timeout=30)


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", ports: Ports, folder: Path) -> None:
    for _ in range(400):
        assert process.poll() is None, (folder / "output").read_text()
        asking = HTTPConnection("127.0.0.1", ports.plain, timeout=30)
        try:
            asking.request("GET", "/told/lines")
            asking.getresponse().read()
        except OSError:
            sleep(0.05)
        else:
            return
        finally:
            asking.close()
    raise AssertionError((folder / "output").read_text())
