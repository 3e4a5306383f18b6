"""docs/deployment.md as it stands: a real nginx before uvicorn with two workers."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from sqlalchemy import URL

from hermes_session_mw import SESSION_HEADER, SQLAlchemyStore, is_session_id
from hermes_session_mw.testing.helpers import numbered
from tests.support import postgres
from tests.support.nginx import nginx
from tests.support.server import HUNG, ROOT, free_port, serving

PAGE = (ROOT / "docs" / "deployment.md").read_text()
# Where it is told of a gate, it waits before it begins, and once more before the end.
MODEL = """
import os
from pathlib import Path
import anyio

async def answer_to(messages):
    gate = messages[-1]["content"]
    await opened(gate, "first")
    yield f"{os.getpid()} "
    await opened(gate, "second")
    yield "the end."

async def opened(gate, which):
    while gate and not Path(gate, which).exists():
        await anyio.sleep(0.01)
"""


def block(name: str) -> str:
    """Return the page's one block with this name."""
    (found,) = re.findall(rf"^```{name}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return str(found)


def configuration(folder: Path, port: int, app_port: int) -> str:
    """Return the page's own, with this test's ports and paths; the certificate is left out."""
    (folder / "htpasswd").write_text("ada:{PLAIN}secret\nbob:{PLAIN}secret\n")
    text = block("nginx")
    for before, after in [
        ("listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        ("ssl_certificate     /etc/ssl/certs/chat.example.pem;", ""),
        ("ssl_certificate_key /etc/ssl/private/chat.example.key;", ""),
        ("127.0.0.1:8000", f"127.0.0.1:{app_port}"),
        ("/var/log/nginx/", f"{folder}/"),
        ("/etc/nginx/hermes.htpasswd", f"{folder}/htpasswd"),
    ]:
        assert before in text, before
        text = text.replace(before, after)
    return text


class Site:
    """The application behind nginx, and what a client and an operator can do with it."""

    def __init__(self, folder: Path, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.url = url
        self.process = process
        self.database = f"sqlite:///{folder}/sessions.db"

    def client(self, name: str = "ada") -> httpx2.Client:
        return httpx2.Client(base_url=self.url, auth=(name, "secret"), timeout=30)

    def gate(self, name: str, *opened: str) -> Path:
        """Return a gate for the model: a folder, with a file for each half that is open."""
        gate = self.folder / f"gate-{name}"
        gate.mkdir()
        for half in opened:
            (gate / half).touch()
        return gate

    def stored(self, session_id: str, owner: str = "ada") -> list[dict[str, Any]]:
        return anyio.run(load, self.database, session_id, owner)


async def load(database: str, session_id: str, owner: str) -> list[dict[str, Any]]:
    store = SQLAlchemyStore(database)
    history = await store.load(session_id, owner)
    await store.aclose()
    return history.messages


@contextmanager
def deployed(folder: Path, *, graceful: int) -> Iterator[Site]:
    """Serve the page's application by the page's command, with the page's nginx before it."""
    (folder / "app.py").write_text(block("python app.py"))
    (folder / "model.py").write_text(MODEL)
    port, app_port = free_port(), free_port()
    line = block("sh").replace("\\\n", " ")
    for before, after in [
        ("--port 8000", f"--port {app_port}"),
        ("--workers 4", "--workers 2"),
        ("shutdown 30", f"shutdown {graceful}"),
    ]:
        assert line.count(before) == 1
        line = line.replace(before, after)
    command = [sys.executable, "-m", *shlex.split(line)]
    database = f"sqlite:///{folder}/sessions.db"
    with (
        serving(command, app_port, folder, ready="/healthz", DATABASE_URL=database) as process,
        nginx(configuration(folder, port, app_port), folder, f"http://127.0.0.1:{port}/healthz"),
    ):
        yield Site(folder, f"http://127.0.0.1:{port}", process)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for the whole module."""
    with deployed(tmp_path_factory.mktemp("site"), graceful=30) as made:
        yield made


def told(events: str) -> str:
    """Return the text that server-sent events bring."""
    *data, last = re.findall(r"^data: (.*)$", events, re.MULTILINE)
    assert last == "[DONE]"
    return "".join(json.loads(each)["text"] for each in data)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has to come."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_workers_share_a_conversation(site: Site) -> None:
    """Through nginx the header goes both ways, and all workers serve one conversation."""
    sent = {SESSION_HEADER: "shared"}

    def one(number: int) -> tuple[str, str]:
        with site.client() as client:
            answer = client.post("/v1/chat", json={"text": ""}, headers=sent)
            answer.raise_for_status()
            return answer.headers[SESSION_HEADER], told(answer.text).split()[0]

    answers = [one(0)]
    first = int(answers[0][1])
    with ThreadPoolExecutor(8) as pool:
        os.kill(first, signal.SIGSTOP)  # so that the other one has to accept what comes
        try:
            others = [pool.submit(one, number) for number in range(8)]
            next(as_completed(others, timeout=30))
        finally:
            os.kill(first, signal.SIGCONT)
        answers += [other.result() for other in others]
    assert len({process for _, process in answers}) == 2
    assert {session_id for session_id, _ in answers} == {"shared"}
    assert len(site.stored("shared")) == 2 * len(answers)


def test_a_client_without_an_id_gets_one(site: Site) -> None:
    """A new id comes back through nginx, once, and nobody may cache it."""
    with site.client() as client:
        answer = client.post("/v1/chat", json={"text": ""})
        (minted,) = answer.headers.get_list(SESSION_HEADER)
        assert is_session_id(minted)
        assert "private" in answer.headers["Cache-Control"]
        assert (
            client.get("/nowhere", headers={SESSION_HEADER: minted}).headers[SESSION_HEADER]
            == minted
        )
    assert len(site.stored(minted)) == 2
    health = httpx2.get(f"{site.url}/healthz")
    assert health.status_code == 200
    assert SESSION_HEADER not in health.headers


def test_a_stream_arrives_piece_by_piece(site: Site) -> None:
    """The id is here before the model begins, and a piece while it waits with the next one."""
    gate = site.gate("pieces")
    with (
        site.client() as client,
        client.stream(
            "POST", "/v1/chat", json={"text": str(gate)}, headers={SESSION_HEADER: "pieces"}
        ) as answer,
    ):
        assert answer.headers[SESSION_HEADER] == "pieces"
        (gate / "first").touch()  # only now does the model begin
        pieces = answer.iter_text()
        assert next(pieces).startswith("data: ")
        (gate / "second").touch()
        assert told("".join(pieces)) == "the end."
    assert site.stored("pieces")[-1]["content"].endswith(" the end.")


def test_a_client_that_leaves_is_known_behind_nginx(site: Site) -> None:
    """The application hears of it, and what has come is stored and marked."""
    gate = site.gate("left", "first")
    with (
        site.client() as client,
        client.stream(
            "POST", "/v1/chat", json={"text": str(gate)}, headers={SESSION_HEADER: "left"}
        ) as answer,
    ):
        assert next(answer.iter_text()).startswith("data: ")
    until(lambda: len(site.stored("left")) == 2)
    assert site.stored("left")[-1]["status"] == "incomplete"


def test_a_spoofed_owner_is_overwritten(site: Site) -> None:
    """Whoever names somebody else, in any way, is still who nginx says."""
    spoofed = [
        (SESSION_HEADER, "hers"),
        ("X-Forwarded-User", "bob"),
        ("X-Forwarded-User", "bob"),
        ("x_forwarded_user", "bob"),
    ]
    with site.client("ada") as ada, site.client("bob") as bob:
        assert ada.post("/v1/chat", json={"text": ""}, headers=spoofed).status_code == 200
        unknown = bob.get("/v1/sessions/hers")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "session_not_found")
        assert ada.get("/v1/sessions/hers").status_code == 200
    assert len(site.stored("hers", "ada")) == 2
    assert site.stored("hers", "bob") == []
    anonymous = httpx2.post(f"{site.url}/v1/chat", json={"text": ""}, headers=spoofed)
    assert anonymous.status_code == 401
    assert SESSION_HEADER not in anonymous.headers  # nginx's own answer, as the page says


def test_a_spoofed_scheme_is_overwritten(site: Site) -> None:
    """Nginx says how it was spoken to, and the application believes nginx alone."""
    with site.client() as client:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.9.8.7"}
        answer = client.get("/v1/sessions/", headers=forwarded)
    assert answer.status_code == 307
    assert answer.headers["Location"].startswith("http://127.0.0.1")


def test_what_nginx_refuses_hands_the_id_back(site: Site) -> None:
    """A body that is too large for nginx is refused with the client's own id, if it is one."""
    large = {"text": "x" * 2_100_000}
    with site.client() as client:
        refused = client.post("/v1/chat", json=large, headers={SESSION_HEADER: "large"})
        assert (refused.status_code, refused.headers[SESSION_HEADER]) == (413, "large")
        assert refused.json()["error"]["code"] == "request_too_large"
        for none in ({}, {SESSION_HEADER: "not an id"}):
            refused = client.post("/v1/chat", json=large, headers=none)
            assert refused.status_code == 413
            assert SESSION_HEADER not in refused.headers


def test_an_application_that_is_down_is_told_with_the_id(tmp_path: Path) -> None:
    """Nginx answers for it, with the client's own id, and the ids of paths are in no log."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        nginx(configuration(tmp_path, port, free_port()), tmp_path, url),
        httpx2.Client(base_url=url, auth=("ada", "secret")) as client,
    ):
        sent = {SESSION_HEADER: "a-secret-id"}
        down = client.post("/v1/chat", json={"text": ""}, headers=sent)
        assert (down.status_code, down.headers[SESSION_HEADER]) == (503, "a-secret-id")
        assert down.json()["error"]["code"] == "service_unavailable"
        assert (down.headers["Retry-After"], down.headers["Cache-Control"]) == ("5", "no-store")
        assert SESSION_HEADER not in client.get("/v1/sessions").headers
        assert client.get("/v1/sessions/another-secret-id?after=a-third-secret-id").is_error
    logs = logs_of(tmp_path)
    assert '"GET /v1/sessions/-" 503' in logs
    assert "secret-id" not in logs


def test_no_log_has_an_id(site: Site) -> None:
    """Neither nginx's logs nor the server's have an id in them, whether in a header or a path."""
    secret = "an-id-that-is-a-secret"
    with site.client() as client:
        client.post("/v1/chat", json={"text": ""}, headers={SESSION_HEADER: secret})
        for path in (f"/v1/sessions/{secret}", f"/v1/sessions/{secret}/messages?after={secret}"):
            client.get(path, headers={"Referer": f"{site.url}/v1/sessions/{secret}"})
        client.delete(f"/v1/sessions/{secret}")
    until(lambda: '"DELETE /v1/sessions/-" 204' in logs_of(site.folder))
    logs = logs_of(site.folder)
    assert '"GET /v1/sessions/-/messages"' in logs
    assert secret not in logs


def logs_of(folder: Path) -> str:
    """Return all that was logged."""
    files = [*folder.glob("*.log"), folder / "nginx.out"]
    return "\n".join(file.read_text() for file in files)


def test_a_stopped_server_keeps_what_has_come(tmp_path: Path) -> None:
    """SIGTERM ends a stream that outlasts the time to be graceful, and stores what it had."""
    with deployed(tmp_path, graceful=1) as site, site.client() as client:
        sent = {SESSION_HEADER: "stopped"}
        question = {"text": str(site.gate("stopped", "first"))}
        with client.stream("POST", "/v1/chat", json=question, headers=sent) as answer:
            pieces = answer.iter_text()
            assert next(pieces).startswith("data: ")
            site.process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx2.TransportError):
                "".join(pieces)
        site.process.wait(timeout=HUNG)
        asked, said = site.stored("stopped")
        assert (asked["role"], said["status"]) == ("user", "incomplete")


def test_old_conversations_are_pruned_by_a_script(tmp_path: Path) -> None:
    """The page's script is what a cron job needs."""
    (tmp_path / "prune.py").write_text(block("python prune.py"))
    ended = subprocess.run(
        [sys.executable, "prune.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": "sqlite:///sessions.db"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert ended.stdout == "0 sessions removed\n"


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_process_holds_so_many_connections(
    driver: str, postgres_server: URL, anyio_backend_name: str
) -> None:
    """Under any load a store opens ten connections and no more, or as many as it has threads."""
    if driver == "asyncpg" and anyio_backend_name != "asyncio":
        return
    with postgres.database(postgres_server) as url, postgres.connect(url) as watcher:
        for threads, most in [(None, 10), (2, 2)]:
            store = SQLAlchemyStore(url.set(drivername=f"postgresql+{driver}"), threads=threads)
            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    tasks.start_soon(store.append, f"session-{number}", numbered(0))
            found = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
            assert found is not None
            assert 1 <= found[0] <= most
            await store.aclose()
