"""The demo with four workers behind nginx: an answer, its tab, its worker, and another device."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import (
    UNFINISHED,
    Visits,
    ask,
    browser,
    messages,
    session_of,
    shoot,
    stored,
    visit,
    wait_for_a_piece,
    wait_for_answer,
    wait_until_stored,
)
from tests.support.demo_worker import WORKER_HEADER
from tests.support.nginx import nginx
from tests.support.server import free_port, serving
from tests.support.stepped_model import SteppedModel, stepped_model

__all__ = ["browser", "visit"]  # fixtures

CONFIGURATION = """
server {{
    listen 127.0.0.1:{port};
    access_log off;
    location / {{
        proxy_pass http://127.0.0.1:{app_port};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_read_timeout 300s;
    }}
}}
"""


@pytest.fixture
def model() -> Iterator[SteppedModel]:
    """The workers' model."""
    with stepped_model() as served:
        yield served


@pytest.fixture
def url(tmp_path: Path, model: SteppedModel) -> Iterator[str]:
    """Four workers with one SQLite database, behind nginx."""
    port, app_port = free_port(), free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "tests.support.demo_worker:create_app"]
    command += ["--port", str(app_port), "--workers", "4", "--no-access-log"]
    command += ["--timeout-graceful-shutdown", "5"]
    database = f"sqlite:///{tmp_path}/sessions.db"
    workers = serving(
        command,
        app_port,
        tmp_path,
        ready="/healthz",
        WORKER_DATABASE=database,
        WORKER_MODEL=model.url,
    )
    configuration = CONFIGURATION.format(port=port, app_port=app_port)
    address = f"http://127.0.0.1:{port}"
    with workers, nginx(configuration, tmp_path, f"{address}/healthz"):
        yield address


def begin(page: Page, model: SteppedModel) -> int:
    """Ask, wait for the beginning of the answer, and return the process that gives it."""
    with page.expect_response("**/v1/chat/completions") as answered:
        ask(page, "Count for a minute.")
        model.say("one", " two")
    wait_for_a_piece(page, "one two")
    return int(answered.value.headers[WORKER_HEADER.lower()])


def wait_until_logged(url: str, session_id: str, text: str, worker: int) -> None:
    """Wait until another worker tells this piece, which it has from the database."""
    path = f"{url}/v1/sessions/{session_id}/answer"
    for _ in range(200):
        with httpx2.stream("GET", path, timeout=60) as response:
            if response.headers[WORKER_HEADER] != str(worker):
                next(line for line in response.iter_lines() if text in line)
                return
    raise AssertionError("no other worker was asked")


def test_another_device_finds_what_a_killed_worker_has_said(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """A tab is closed and the worker killed: question and part are there, and it can be gone on."""
    somebody, other = visit(), visit()
    other.expect("404", "net::ERR_INCOMPLETE_CHUNKED_ENCODING")
    page = somebody.open(url)
    worker = begin(page, model)
    session_id, address = session_of(page), page.url
    page.close()
    model.say(" three")
    wait_until_logged(url, session_id, "three", worker)
    os.kill(worker, signal.SIGKILL)
    model.wait_until_left()
    device = other.open(address)
    expect(device.locator("#messages .body").last).to_have_text("one two three")
    expect(device.get_by_text(UNFINISHED)).to_be_visible()
    assert messages(device) == ["Count for a minute.", "one two three"]
    expect(device.get_by_role("alert")).to_be_hidden()
    shoot(device, "wide-killed")
    ask(device, "And on?")
    model.end("four")
    wait_for_answer(device, "four")
    kept = stored(url, session_id)
    assert [each["content"] for each in kept] == messages(device)
    assert [each.get("status") for each in kept] == [None, "incomplete", None, None]
    assert model.asked == 2


def test_another_device_gets_the_whole_answer_of_a_closed_tab(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """A tab is closed and its worker lives: another device sees the answer grow to its end."""
    somebody, other = visit(), visit()
    other.expect("404")
    page = somebody.open(url)
    begin(page, model)
    session_id, address = session_of(page), page.url
    page.close()
    model.say(" three")
    device = other.open(address)
    wait_for_a_piece(device, "one two three")
    assert messages(device)[0] == "Count for a minute."
    model.end(" four")
    wait_for_answer(device, "one two three four")
    assert messages(device) == ["Count for a minute.", "one two three four"]
    late = other.open(address)
    wait_for_answer(late, "one two three four")
    kept = wait_until_stored(url, session_id, 2)
    assert [each["content"] for each in kept] == messages(late)
    assert model.asked == 1


def test_a_tab_whose_worker_is_killed_offers_to_try_again(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """A page joins its answer at another worker, sees that it has broken off, and has it anew."""
    somebody = visit()
    somebody.expect("404", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "400")
    page = somebody.open(url)
    worker = begin(page, model)
    session_id = session_of(page)
    wait_until_logged(url, session_id, "two", worker)
    os.kill(worker, signal.SIGKILL)
    model.wait_until_left()
    expect(page.get_by_text(UNFINISHED)).to_be_visible()
    assert messages(page) == ["Count for a minute.", "one two"]
    expect(page.get_by_role("status")).to_have_text("The answer stopped before its end.")
    assert model.asked == 1
    page.get_by_role("button", name="Try again").click()
    model.end("One, two, three.")
    wait_for_answer(page, "One, two, three.")
    assert [each["content"] for each in stored(url, session_id)] == messages(page)
