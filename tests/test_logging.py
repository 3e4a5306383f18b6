"""Logs name a session by its fingerprint, and never give its id away."""

import json
import logging
import logging.config
import re
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from demo_app.app import create_app
from demo_app.logs import log_config
from hermes_session_mw import HermesSession, MemoryStore, SessionIdFilter
from hermes_session_mw.logging import current_session, fingerprint
from tests.support.server import ROOT, demo, free_port, serving

HEADER = "X-Hermes-Session-Id"


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "x", 1, message, arguments, None)


def test_log_records_carry_the_sessions_fingerprint() -> None:
    """The filter marks every record with the current session, and never with its id."""
    outside, inside = record("hello"), record("hello")
    assert SessionIdFilter().filter(outside)
    token = current_session.set(HermesSession(MemoryStore(), "secret"))
    try:
        assert SessionIdFilter().filter(inside)
    finally:
        current_session.reset(token)
    assert outside.hermes_session == "-"  # type: ignore[attr-defined]  # the filter adds it
    assert inside.hermes_session == fingerprint("secret")  # type: ignore[attr-defined]
    assert len(fingerprint("secret")) == 12
    assert "secret" not in fingerprint("secret")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/sessions/my-id", "/sessions/{}"),
        ("/sessions/my-id/messages?limit=1", "/sessions/{}/messages?limit=1"),
        ("/sessions/my%2Did?x=/sessions/my-id", "/sessions/{0}?x=/sessions/{0}"),
        ("/mounted/sessions/my-id", "/mounted/sessions/{}"),
        ("/threads/a.b/my-id", "/threads/a.b/{}"),
        ("/threads/aXb/my-id", "/threads/aXb/my-id"),
        ("//sessions//my-id", "//sessions//{}"),
        ("/sessions%2fmy-id%2F", "/sessions%2f{}%2F"),
        ("GET /sessions/my-id HTTP/1.1", "GET /sessions/{} HTTP/1.1"),
        ("/sessions" + "/" * 10_000 + "my-id", "/sessions" + "/" * 10_000 + "{}"),
        ("/v1/chats/my-id", "/v1/chats/{}"),
        ("/v1/chats/my-id/items", "/v1/chats/{}/items"),
        ("/v1/chats/my-id/items/my%2Did?x=1", "/v1/chats/{0}/items/{0}?x=1"),
        ("/v1/chats//my-id%2Fitems%2Fmy-id/x", "/v1/chats//{0}%2Fitems%2F{0}/x"),
        ("/v1/chats/my-id/items?after=my-id&limit=1", "/v1/chats/{0}/items?after={0}&limit=1"),
        ("/sessions?limit=1&after=my%2Did", "/sessions?limit=1&after={}"),
        ("/sessions?hereafter=my-id", "/sessions?hereafter=my-id"),
        ("/sessions", "/sessions"),
        ("/sessions/", "/sessions/"),
        ("/sessions?cursor=1", "/sessions?cursor=1"),
        ("/sessionsx/my-id", "/sessionsx/my-id"),
        ("/" * 10_000, "/" * 10_000),
    ],
)
def test_ids_in_paths_are_replaced(path: str, expected: str) -> None:
    """Below the given paths a record's arguments have the id's fingerprint in its place."""
    line = record("%s %s %d", "GET", path, 200)
    paths = ["/sessions", "/threads/a.b/", "/v1/chats", "/v1/chats/{id}/items"]
    assert SessionIdFilter(paths=paths, parameters=["after"]).filter(line)
    assert line.args == ("GET", expected.format(fingerprint("my-id")), 200)


def test_other_arguments_stay_what_they_are() -> None:
    """A filter without paths leaves a record's text alone, and none changes a caller's mapping."""
    named = {"a": "/sessions/my-id", "b": 1}
    lines = [record("%s", "/sessions/my-id"), record("%(a)s", named)]
    for line in (*lines, record("%(a)s", MappingProxyType(named))):
        assert SessionIdFilter().filter(line)
        assert line.getMessage() == "/sessions/my-id"
    assert SessionIdFilter(paths=["/sessions"]).filter(lines[1])
    assert named == {"a": "/sessions/my-id", "b": 1}


class Atoms(dict[str, str]):
    """As servers have for their access logs: what is not there is a dash."""

    def __init__(self, path: str, length: int) -> None:
        super().__init__(path=path, length=str(length))

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name) if name in self else "-"


def test_ids_in_a_mapping_are_replaced() -> None:
    """Arguments that are a mapping, as in Hypercorn's access log, stay one of their kind."""
    line = record("%(path)s %(length)s %(other)s", Atoms("/sessions/my-id", 7))
    assert SessionIdFilter(paths=["/sessions"]).filter(line)
    assert line.getMessage() == f"/sessions/{fingerprint('my-id')} 7 -"


def test_each_of_several_handlers_has_the_same_fingerprint() -> None:
    """A record that passes several filters has the id's fingerprint, and not that one's own."""
    line = record("%s", "/sessions/my-id")
    for _ in range(2):
        assert SessionIdFilter(paths=["/sessions"]).filter(line)
    assert line.getMessage() == f"/sessions/{fingerprint('my-id')}"


def recipe() -> str:
    """Return the log configuration that the page has for uvicorn."""
    page = (ROOT / "docs" / "observability.md").read_text()
    found = re.search(r"```json log-config.json\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def test_uvicorns_access_log_has_the_fingerprint(tmp_path: Path) -> None:
    """With the page's recipe each line has it: of answers, of refusals, and of an error."""
    (tmp_path / "log-config.json").write_text(recipe())
    port = free_port()
    app = ["-m", "uvicorn", "tests.support.logged_app:create_app", "--factory", "--port", str(port)]
    command = [sys.executable, *app, "--log-config", "log-config.json"]
    with serving(command, port, tmp_path, ready="/healthz"):
        url = f"http://127.0.0.1:{port}"
        for _ in range(2):
            httpx2.get(f"{url}/", headers={HEADER: "my-thread"})
        httpx2.get(f"{url}/sessions/my-thread/messages", headers={HEADER: "my-thread"})
        refused = httpx2.get(f"{url}/", headers={HEADER: "not valid"})
        raised = httpx2.get(f"{url}/error", headers={HEADER: "my-thread"})
        assert (refused.status_code, raised.status_code) == (400, 500)
    log = (tmp_path / "server.log").read_text()
    lines = [line for line in log.splitlines() if '"GET ' in line and "healthz" not in line]
    mine, other = fingerprint("my-thread"), fingerprint(refused.headers[HEADER])
    assert [line.rsplit("[", 1)[1] for line in lines] == [
        f"{name}]" for name in (mine, mine, mine, other, mine)
    ]
    assert f"/sessions/{mine}/messages" in lines[2]
    assert "my-thread" not in log
    assert refused.headers[HEADER] not in log


def test_the_pages_configuration_is_uvicorns_with_the_filter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Set up as the page has it, uvicorn's access logger prints the fingerprint it promises."""
    page = (ROOT / "docs" / "observability.md").read_text()
    (code,) = re.findall(r"```python\n(import copy\n.*?)```", page, re.DOTALL)
    (promised,) = re.findall(r"^# INFO: +(.*)$", code, re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/observability.md", "exec"), names)
    config = names["log_config"]
    logger = {"test.access": config["loggers"]["uvicorn.access"]}
    logging.config.dictConfig({**config, "loggers": logger})
    token = current_session.set(HermesSession(MemoryStore(), "my-first-chat"))
    try:
        line = ("127.0.0.1:36148", "POST", "/chat", "1.1", 200)
        logging.getLogger("test.access").info('%s - "%s %s HTTP/%s" %d', *line)
    finally:
        current_session.reset(token)
        logging.getLogger("test.access").handlers.clear()
    assert promised in capsys.readouterr().out


def test_the_demo_logs_no_id(tmp_path: Path) -> None:
    """The demo's access log names sessions by their fingerprints, in paths as well."""
    with demo(tmp_path) as url:
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        headers = {HEADER: "my-secret-thread"}
        httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers).raise_for_status()
        path = f"{url}/v1/sessions/my-secret-thread/messages"
        httpx2.get(path, headers=headers).raise_for_status()
        created = httpx2.post(f"{url}/v1/responses", json={"input": "Hello"}, headers=headers)
        response_id = created.raise_for_status().json()["id"]
        httpx2.get(f"{url}/v1/responses/{response_id}", headers=headers).raise_for_status()
    log = (tmp_path / "server.log").read_text()
    assert f"/v1/sessions/{fingerprint('my-secret-thread')}/messages" in log
    assert f"200 OK [{fingerprint('my-secret-thread')}]" in log
    assert "my-secret-thread" not in log
    assert response_id not in log
    assert json.dumps(body) not in log


def test_the_demos_filter_knows_every_route_with_an_id() -> None:
    """Whatever id a path of the demo has, and a page of a list begins after, is not logged."""
    app = create_app(MemoryStore(), keys=[])
    while not isinstance(app, Starlette):
        app = app.app  # type: ignore[attr-defined]  # of the middleware around it
    settings = log_config()["filters"]["session"]
    made = SessionIdFilter(**{name: value for name, value in settings.items() if name != "()"})
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    named = [path for path in paths if "{" in path and "{model_id" not in path]
    assert len(named) > 8
    for path in named:
        line = record("%s", re.sub(r"\{[^}]*\}", "my-id", path) + "?after=my-id&cursor=my-id")
        made.filter(line)
        shown = fingerprint("my-id")
        expected = re.sub(r"\{[^}]*\}", shown, path)
        assert line.getMessage() == f"{expected}?after={shown}&cursor={shown}"
