"""A proxy that keeps its connections open: an application that raises costs no other client."""

import sys
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from hermes_session_mw import SESSION_HEADER
from tests.support.nginx import nginx
from tests.support.server import free_port, serving

ROUNDS = 150
CONFIGURATION = """
access_log off;
upstream app {{ server 127.0.0.1:{app_port}; keepalive 32; }}
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://app;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }}
}}
"""


@pytest.mark.parametrize(
    ("app", "parser", "status"),
    [
        ("bare", "h11", 500),
        ("bare", "httptools", 500),
        ("starlette", "httptools", 500),
        ("handled", "httptools", 503),
        ("behind_another", "httptools", 500),
        ("fastapi", "httptools", 500),
    ],
)
def test_an_error_page_costs_nobody_else_a_request(
    app: str, parser: str, status: int, tmp_path: Path
) -> None:
    """After an application's error page, which has the id, another client's POST is never a 502."""
    port, app_port = free_port(), free_port()
    served = f"tests.support.raising_apps:{app}"
    options = ["--port", str(app_port), "--http", parser, "--log-level", "critical"]
    command = [sys.executable, "-m", "uvicorn", served, *options]
    url = f"http://127.0.0.1:{port}"
    pages, others = Counter[int](), Counter[int]()
    with (
        serving(command, app_port, tmp_path, ready="/"),
        nginx(CONFIGURATION.format(port=port, app_port=app_port), tmp_path, url),
        httpx2.Client(base_url=url) as one,
        httpx2.Client(base_url=url) as another,
    ):
        for _ in range(ROUNDS):
            page = one.get("/raise", headers={SESSION_HEADER: "mine"})
            pages[page.status_code] += 1
            assert page.headers[SESSION_HEADER] == "mine"
            others[another.post("/", content=b"x").status_code] += 1
    assert pages == {status: ROUNDS}
    assert others == {200: ROUNDS}
