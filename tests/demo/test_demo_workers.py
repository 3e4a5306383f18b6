"""Four workers behind nginx, an answer of a minute: its tab is closed, and its worker killed."""

import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.nginx import nginx
from tests.support.server import HUNG, free_port, serving

CHAT = "/v1/chat/completions"
WORKERS = 4
HEADER = "X-Hermes-Session-Id"
CONFIGURATION = """
upstream workers {{
    {servers}
}}
server {{
    listen 127.0.0.1:{port};
    access_log off;
    location / {{
        proxy_pass http://workers;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_read_timeout 300s;
        add_header X-Worker $upstream_addr always;
    }}
}}
"""

Site = tuple[httpx2.Client, dict[str, Any]]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A client of nginx, and the workers' processes by their addresses."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    if request.param != "sqlite":
        name = "postgres_url" if request.param == "postgresql" else "mysql_url"
        url = request.getfixturevalue(name).render_as_string(hide_password=False)
    with ExitStack() as stack:
        workers: dict[str, Any] = {}
        for _ in range(WORKERS):
            port = free_port()
            command = [sys.executable, "-m", "demo_app", "--store", url, "--pace", "0.3"]
            process = serving([*command, "--port", str(port)], port, tmp_path, ready="/healthz")
            workers[f"127.0.0.1:{port}"] = stack.enter_context(process)
        port = free_port()
        servers = "".join(f"server {each};" for each in workers)
        configuration = CONFIGURATION.format(port=port, servers=servers)
        there = f"http://127.0.0.1:{port}"
        stack.enter_context(nginx(configuration, tmp_path, f"{there}/healthz"))
        # The database may be that of other tests.
        here = {HEADER: str(uuid.uuid4())}
        client = httpx2.Client(base_url=there, timeout=60, headers=here)
        yield stack.enter_context(client), workers


def session_of(client: httpx2.Client) -> str:
    """Return the session's path."""
    return f"/v1/sessions/{client.headers[HEADER]}"


def messages_of(client: httpx2.Client) -> list[Any]:
    """Return the conversation's messages."""
    response = client.get(f"{session_of(client)}/messages")
    return list(response.json()["data"]) if response.status_code == 200 else []


def until_there(client: httpx2.Client, count: int) -> list[Any]:
    """Wait until the conversation has so many messages, and return them."""
    until = time.monotonic() + 60
    while len(messages := messages_of(client)) < count:
        assert time.monotonic() < until, messages
        time.sleep(0.1)
    return messages


def question(words: int) -> dict[str, Any]:
    """Return a body whose answer takes 0.3 seconds for each word."""
    text = " ".join(f"w{number}" for number in range(words))
    return {"messages": [{"role": "user", "content": text}], "stream": True}


def test_an_answer_survives_its_tab_and_a_conversation_its_worker(site: Site) -> None:
    """The question and what came are there for another device, and the conversation goes on."""
    client, workers = site
    with client.stream("POST", CHAT, json=question(200)) as response:
        worker = workers[response.headers["x-worker"]]
        assert any('" w3"' in line for line in response.iter_lines())
    # The tab is closed, and the answer goes on: another device follows it.
    with client.stream("GET", f"{session_of(client)}/answer") as response:
        assert response.status_code == 200
        assert any('" w6"' in line for line in response.iter_lines())
    worker.send_signal(signal.SIGKILL)
    worker.wait(timeout=HUNG)
    asked, answer = until_there(client, 2)
    assert asked["content"] == question(200)["messages"][0]["content"]
    assert answer["status"] == "incomplete"
    assert answer["content"].startswith("You said: w0 w1 w2 w3 w4 w5 w6")
    again = {"messages": [{"role": "user", "content": "And now?"}], "stream": True}
    with client.stream("POST", CHAT, json=again) as response:
        assert response.status_code == 200
        assert any('" remember"' in line for line in response.iter_lines())
    assert client.post(f"{session_of(client)}/answer/stop").status_code == 202
    *_, asked, answer = until_there(client, 4)
    assert asked["content"] == "And now?"
    assert answer["content"].startswith("You said: And now? | I remember")


def test_a_repeated_request_joins_its_answer_behind_nginx(site: Site) -> None:
    """A client that was cut off gets the whole answer from whatever worker, told once."""
    client, _ = site
    key = {"Idempotency-Key": "k"}
    with client.stream("POST", CHAT, json=question(10), headers=key) as response:
        next(line for line in response.iter_lines() if '" w3"' in line)
    replayed, told = set(), set()
    for _ in range(WORKERS):
        again = client.post(CHAT, json=question(10) | {"stream": False}, headers=key)
        assert again.status_code == 200
        replayed.add(again.headers["idempotency-replayed"])
        told.add(again.json()["choices"][0]["message"]["content"])
    assert replayed == {"true"}
    (text,) = told
    assert text.startswith("You said: w0 w1")
    assert len(messages_of(client)) == 2
