"""Cookies in several fields, as HTTP/2 and HTTP/3 bring them, name an owner as in one."""

import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.asgi.headers import join_cookies
from hermes_session_mw.testing.helpers import numbered
from tests.support.asgi import HEADER, http_scope, request
from tests.support.cookie_app import app, bare, store
from tests.support.server import free_port, serving

SPLIT = [
    [(b"cookie", b"user=ada")],
    [(b"cookie", b"user=ada; a=1")],
    [(b"cookie", b"user=ada"), (b"cookie", b"a=1")],
    [(b"cookie", b"a=1"), (b"cookie", b"user=ada")],
    [(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"Cookie", b"user=ada"), (b"cookie", b"b=2")],
]


@pytest.mark.parametrize("cookies", SPLIT)
async def test_an_owner_by_cookie_is_found_in_any_field(cookies: list[tuple[bytes, bytes]]) -> None:
    """However a client splits its cookies, the hook finds the one that it goes by."""
    log = await request(app, scope=http_scope([(HEADER, b"id"), *cookies]))
    assert log[0]["status"] == 200
    assert b'"owner":"ada"' in log[1]["body"]
    assert b'"fields":1' in log[1]["body"]


@pytest.mark.parametrize("cookies", SPLIT)
@pytest.mark.parametrize("site", [app, bare])
async def test_the_routes_find_the_owner_in_any_field(
    cookies: list[tuple[bytes, bytes]], site: Any
) -> None:
    """So do the session routes, by the middleware's hook and by one of their own."""
    await store.append("listed", numbered(0), "ada")
    log = await request(site, scope=http_scope(cookies, path="/sessions/listed"))
    assert log[0]["status"] == 200


async def test_no_cookie_is_nobody() -> None:
    """Without a cookie there is no owner, and an id is a 401."""
    log = await request(app, "id")
    assert log[0]["status"] == 401


@given(
    st.lists(st.tuples(st.sampled_from([b"cookie", b"Cookie", b"accept"]), st.binary(max_size=9)))
)
def test_only_cookies_are_joined(headers: list[tuple[bytes, bytes]]) -> None:
    """The values are the same in the same order, the other fields untouched, and one is left."""
    joined = join_cookies(iter(headers))
    others = [pair for pair in headers if pair[0].lower() != b"cookie"]
    values = [value for key, value in headers if key.lower() == b"cookie"]
    assert [pair for pair in joined if pair[0].lower() != b"cookie"] == others
    left = [value for key, value in joined if key.lower() == b"cookie"]
    assert left == ([b"; ".join(values)] if values else [])


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_cookies_over_a_socket(version: str, tmp_path: Path) -> None:
    """Granian hands on each field of HTTP/2 as it came; the owner is found all the same."""
    port = free_port()
    options = ["--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "granian", "tests.support.cookie_app:app", *options]
    is_2 = version == "2"
    with (
        serving(command, port, tmp_path, ready="/"),
        httpx2.Client(http1=not is_2, http2=is_2) as client,
    ):
        headers = [("X-Hermes-Session-Id", "id"), ("Cookie", "a=1"), ("Cookie", "user=ada")]
        answer = client.get(f"http://127.0.0.1:{port}/", headers=headers).json()
    assert (answer["owner"], answer["version"]) == ("ada", version)
    assert answer["cookies"] == {"a": "1", "user": "ada"}
