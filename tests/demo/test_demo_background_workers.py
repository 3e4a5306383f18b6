"""A response in the background over two workers and one database, with OpenAI's own SDK."""

import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
from openai.types.responses import Response

from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.server import HUNG, free_port, serving
from tests.support.stepped_model import SteppedModel, stepped_model


class Site(NamedTuple):
    """Two workers.

    Attributes:
        model: whom they ask.
        first: a client of the first one, through ``proxy``.
        proxy: passes its bytes on.
        second: a client of the other one.
        process: the first worker's.
        session_id: of both clients.
    """

    model: SteppedModel
    first: openai.OpenAI
    proxy: CuttingProxy
    second: openai.OpenAI
    process: Any
    session_id: str


@contextmanager
def two_workers(url: str, folder: Path) -> Iterator[Site]:
    """Run two workers that share a database alone."""
    with ExitStack() as stack:
        model = stack.enter_context(stepped_model())
        ports, processes = [free_port(), free_port()], []
        for port in ports:
            command = [sys.executable, "-m", "demo_app", "--store", url, "--upstream", model.url]
            worker = serving([*command, "--port", str(port)], port, folder, ready="/healthz")
            processes.append(stack.enter_context(worker))
        proxy = stack.enter_context(cutting(ports[0]))
        urls = proxy.url, f"http://127.0.0.1:{ports[1]}"
        first, second = (
            stack.enter_context(
                openai.OpenAI(base_url=f"{each}/v1", api_key="unused", max_retries=0)
            )
            for each in urls
        )
        yield Site(model, first, proxy, second, processes[0], "")


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Workers on a database of each kind."""
    folder = tmp_path_factory.mktemp("workers")
    url = f"sqlite:///{folder}/sessions.db"
    if request.param != "sqlite":
        name = "postgres_url" if request.param == "postgresql" else "mysql_url"
        url = request.getfixturevalue(name).render_as_string(hide_password=False)
    with two_workers(url, folder) as site:
        yield site


@pytest.fixture
def site(workers: Site) -> Iterator[Site]:
    """The workers, with a conversation of the test's own."""
    yield in_conversation(workers)
    workers.proxy.mend()
    workers.model.forget()


def in_conversation(site: Site) -> Site:
    """Return the site with a conversation that both clients are in."""
    session_id = uuid.uuid4().hex
    headers = {"X-Hermes-Session-Id": session_id}
    first, second = (
        each.with_options(default_headers=headers) for each in (site.first, site.second)
    )
    return site._replace(first=first, second=second, session_id=session_id)


def begin(site: Site) -> Response:
    """Begin a response at the first worker."""
    return site.first.responses.create(model="m", input="Count.", background=True)


def until(site: Site, response_id: str, text: str) -> Response:
    """Poll the second worker until the response has a text."""
    limit = time.monotonic() + 60
    while (response := site.second.responses.retrieve(response_id)).output_text != text:
        assert response.status == "in_progress"
        assert time.monotonic() < limit
        time.sleep(0.05)
    return response


def ended(site: Site, response_id: str) -> Response:
    """Poll the second worker, as OpenAI's guide does."""
    limit = time.monotonic() + 60
    response = site.second.responses.retrieve(response_id)
    while response.status in {"queued", "in_progress"}:
        assert time.monotonic() < limit
        time.sleep(0.05)
        response = site.second.responses.retrieve(response_id)
    return response


def messages(site: Site) -> list[Any]:
    """Return the conversation's items."""
    return list(site.second.conversations.items.list(site.session_id, order="asc"))


def test_a_stream_that_was_cut_goes_on_at_another_worker(site: Site) -> None:
    """The client has each event once, in order; the model was asked once, the turn stored once."""
    site.model.say("one ", "two ")
    seen: list[Any] = []

    def read_and_cut() -> None:
        events = site.first.responses.create(
            model="m", input="Count.", background=True, stream=True
        )
        for event in events:
            seen.append(event)
            if event.type == "response.output_text.delta" and event.delta == "two ":
                site.proxy.cut()

    with pytest.raises(openai.APIConnectionError):
        read_and_cut()
    response_id, last = seen[0].response.id, seen[-1].sequence_number
    rest = site.second.responses.retrieve(response_id, stream=True, starting_after=last)
    site.model.end("three")
    seen += rest
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"
    assert "".join(getattr(event, "delta", "") for event in seen) == "one two three"
    assert seen[-1].response.output_text == "one two three"
    with site.second.responses.stream(response_id=response_id, starting_after=last) as stream:
        told = [event.sequence_number for event in stream]
        assert stream.get_final_response().output_text == "one two three"
    assert told == list(range(last + 1, len(seen)))
    assert site.model.asked == 1
    assert [item.type for item in messages(site)] == ["message", "message"]


def test_a_response_is_polled_and_followed_at_another_worker(site: Site) -> None:
    """It is told so far while it runs, and as a whole at its end."""
    begun = begin(site)
    assert begun.status == "in_progress"
    site.model.say("one ")
    assert until(site, begun.id, "one ").background is True
    with site.second.responses.stream(response_id=begun.id) as stream:
        site.model.end("two")
        assert stream.get_final_response().output_text == "one two"
    response = ended(site, begun.id)
    assert (response.status, response.output_text) == ("completed", "one two")
    assert response == site.first.responses.retrieve(begun.id)


def test_a_response_is_cancelled_at_another_worker(site: Site) -> None:
    """Its model is left, what came is kept, and the conversation is free."""
    begun = begin(site)
    site.model.say("one ")
    until(site, begun.id, "one ")
    site.model.say("two ")
    until(site, begun.id, "one two ")
    cancelled = site.second.responses.cancel(begun.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "one two ")
    assert site.first.responses.cancel(begun.id) == cancelled
    assert site.first.responses.retrieve(begun.id) == cancelled
    site.model.wait_until_left()
    site.model.end("Yes.")
    answer = site.second.responses.create(model="m", input="Are you there?")
    assert answer.output_text == "Yes."
    assert len(messages(site)) == 4


def test_a_response_whose_worker_is_killed_has_failed(tmp_path: Path) -> None:
    """It has what came, its followers are told, and the conversation goes on."""
    with two_workers(f"sqlite:///{tmp_path}/sessions.db", tmp_path) as workers:
        site = in_conversation(workers)
        begun = begin(site)
        site.model.say("one ", "two ")
        until(site, begun.id, "one two ")
        site.process.send_signal(signal.SIGKILL)
        site.process.wait(timeout=HUNG)
        with pytest.raises(openai.APIError, match="broke off"):
            list(site.second.responses.retrieve(begun.id, stream=True))
        response = ended(site, begun.id)
        assert (response.status, response.output_text) == ("failed", "one two ")
        assert response.error is not None
        assert response.error.code == "server_error"
        assert site.second.responses.cancel(begun.id) == response
        site.model.forget()
        site.model.end("Yes.")
        answer = site.second.responses.create(model="m", input="Are you there?")
        assert answer.output_text == "Yes."
        *_, question, _ = messages(site)
        assert question.content[0].text == "Are you there?"
