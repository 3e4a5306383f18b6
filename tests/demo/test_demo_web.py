"""What the demo gives browsers: the page's files, and answers to pages of other origins."""

import json
import re

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from demo_app.app import create_app
from demo_app.web import FOLDER, PATHS, POLICY, parse_origins
from hermes_session_mw import ConfigurationError, MemoryStore
from tests.demo.test_demo_server import run_demo

SESSION = "X-Hermes-Session-Id"
PAGE = "https://chat.example"
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hello."}]}
ALLOWED = [
    "authorization", "content-type", "idempotency-key", "x-hermes-history-source",
    "x-hermes-session-id", "x-hermes-session-key", "x-hermes-turn", "x-stainless-os",
]  # fmt: skip


@pytest.mark.parametrize("keys", [(), ("ada-key",)], ids=["open", "keyed"])
def test_the_page_has_no_session(keys: tuple[str, ...]) -> None:
    """The page's files are everybody's, are kept by browsers, and mint no id."""
    with TestClient(create_app(MemoryStore(), keys=keys)) as client:
        for path in PATHS:
            response = client.get(path)
            assert response.status_code == 200, path
            assert SESSION not in response.headers
            assert response.headers["Cache-Control"] == "no-cache"
            assert SESSION.lower() not in response.headers.get("Vary", "").lower()
            known = {"If-None-Match": response.headers["ETag"]}
            assert client.get(path, headers=known).status_code == 304
        assert client.get("/").text == (FOLDER / "index.html").read_text()
        for path in ("/index.htm", "/page/main.js", "/..%2fapp.py", "/%2e%2e/app.py"):
            assert client.get(path, follow_redirects=False).status_code in {401, 404}, path
        assert client.post("/").status_code == 405


def test_the_page_may_do_little() -> None:
    """A strict policy stands in a header, and in the page itself for servers that send none."""
    with TestClient(create_app(MemoryStore())) as client:
        page = client.get("/")
    assert page.headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "unsafe" not in POLICY
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in page.text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page.text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)


def test_the_page_is_served_where_the_demo_is_mounted() -> None:
    """Below another path the page and its files have no session either."""
    app = Starlette(routes=[Mount("/demo", create_app(MemoryStore()))])
    client = TestClient(app)
    assert SESSION not in client.get("/demo/").headers
    assert SESSION not in client.get("/demo/main.js").headers
    assert SESSION in client.get("/demo/v1/models").headers


def preflight(client: TestClient, origin: str, **headers: str) -> httpx2.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", **headers}
    return client.options(CHAT, headers=asked)


def test_a_page_of_an_allowed_origin_reads_everything() -> None:
    """Answers, streams and refusals alike are readable, with their ids, and are kept by nobody."""
    app = create_app(MemoryStore(), origins=[PAGE])
    with TestClient(app, headers={"Origin": PAGE}) as client:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            headers = {
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": ", ".join(ALLOWED),
            }
            assert preflight(client, PAGE, **headers).status_code == 200
        answers = [
            client.post(CHAT, json=BODY),
            client.post(CHAT, json={**BODY, "stream": True}),
            client.post(CHAT, json=BODY, headers={SESSION: "a b"}),  # the middleware's own refusal
            client.post(CHAT, json={}),
            client.get("/v1/sessions"),
            client.get("/v1/nothing"),
        ]
    assert [each.status_code for each in answers] == [200, 200, 400, 400, 403, 404]
    for each in answers:
        assert each.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Access-Control-Allow-Credentials" not in each.headers
        assert SESSION in each.headers
        exposed = each.headers["Access-Control-Expose-Headers"].split(", ")
        assert {SESSION, "Retry-After", "Idempotency-Replayed", "X-Should-Retry"} <= set(exposed)
        assert {"Origin", SESSION} <= set(each.headers["Vary"].split(", "))
        assert re.search("private|no-cache|no-store", each.headers["Cache-Control"])


@pytest.mark.parametrize("origins", [(), (PAGE,)], ids=["none", "another"])
def test_a_page_of_any_other_origin_reads_nothing(origins: tuple[str, ...]) -> None:
    """No origin is allowed that was not named, and its preflight does not pass."""
    store = MemoryStore()
    with TestClient(create_app(store, origins=origins)) as client:
        for origin in ("https://evil.example", f"{PAGE}.evil.example", f"{PAGE}:8443", "null"):
            refused = preflight(client, origin)
            assert refused.status_code >= 400
            answer = client.post(CHAT, json=BODY, headers={"Origin": origin, SESSION: "s"})
            assert answer.json()["error"]["code"] == "origin_not_allowed"
            assert answer.headers[SESSION] == "s"
            listed = client.get("/v1/models", headers={"Origin": origin})
            assert listed.status_code == 200
            for each in (refused, answer, listed):
                assert "Access-Control-Allow-Origin" not in each.headers
        assert client.get("/v1/sessions/s").status_code == 404  # and nothing was asked


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://testserver:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://testserver", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
def test_what_is_sent_without_asking_is_refused(headers: dict[str, str], status: int) -> None:
    """A page of another origin cannot ask the model blindly; its own page and programs can."""
    plain = {"Content-Type": "text/plain", **headers}
    with TestClient(create_app(MemoryStore(), origins=[PAGE])) as client:
        assert client.post(CHAT, content=json.dumps(BODY), headers=plain).status_code == status


def test_all_origins_are_allowed_only_by_name() -> None:
    """The star lets every page in, which sends no cookies."""
    with TestClient(create_app(MemoryStore(), origins=["*"])) as client:
        answer = client.post(CHAT, json=BODY, headers={"Origin": "https://any.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", []),
        (" , ", []),
        ("*", ["*"]),
        ("http://127.0.0.1:9000, https://chat.example", ["http://127.0.0.1:9000", PAGE]),
        ("http://[::1]:9000", ["http://[::1]:9000"]),
        ("https://chat.example/", None),
        ("https://chat.example/app", None),
        ("chat.example", None),
        ("null", None),
        ("file://", None),
        ("https://*.example", None),
        ("https://chat.example:port", None),
        ("https://user@chat.example", None),
    ],
)
def test_origins_are_told_from_what_is_none(text: str, origins: list[str] | None) -> None:
    """An origin with a path, or a pattern, would never match, and is refused at the start."""
    if origins is not None:
        assert parse_origins(text) == origins
    else:
        with pytest.raises(ConfigurationError, match="is not an origin"):
            parse_origins(text)


def test_a_wrong_origin_is_told_in_a_line() -> None:
    """An option that could not work ends the demo with an explanation, and no traceback."""
    done = run_demo("--cors-origins", "https://chat.example/app")
    assert done.returncode == 2
    assert "'https://chat.example/app' is not an origin" in done.stderr
    assert "Traceback" not in done.stderr
