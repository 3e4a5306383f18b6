"""What the demo says of its upstream: as it starts, in its log, and to who asks."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from demo_app.upstream_check import problem_of
from tests.support.server import demo, free_port
from tests.support.upstreams import Exchange, Upstream, parrot, upstream


class BelowV1(Upstream):
    """A server that has its API below /v1, as most have, and a page elsewhere."""

    elsewhere: tuple[int, Any] = (404, b"404 page not found")

    def models(self, exchange: Exchange) -> None:
        """List the models where they are."""
        if exchange.path.startswith("/v1/"):
            super().models(exchange)
        else:
            exchange.answer(*self.elsewhere)


class Frontend(BelowV1):
    """A server that answers every other path with its page."""

    elsewhere = (200, b"<html>")


class Locked(Upstream):
    """A server that wants another key."""

    def models(self, exchange: Exchange) -> None:
        """Refuse."""
        exchange.answer(401, {"error": {"message": "no"}})


class Other(Upstream):
    """A server that is something else."""

    def models(self, exchange: Exchange) -> None:
        """Answer with a page."""
        exchange.answer(200, b"<html>")


class Broken(Upstream):
    """A server that fails."""

    def models(self, exchange: Exchange) -> None:
        """Fail."""
        exchange.answer(500, b"")


def root(url: str) -> str:
    return url.removesuffix("/v1")


def test_nothing_is_said_of_an_upstream_that_lists_its_models() -> None:
    """An upstream that works is no trouble, with a slash at its end either."""
    with upstream(parrot) as server:
        assert problem_of(server.url) is None
        assert problem_of(f"{server.url}/", "secret") is None


@pytest.mark.parametrize("kind", [BelowV1, Frontend])
def test_a_forgotten_v1_is_told(kind: type[Upstream]) -> None:
    """Where the API is below /v1 of the address, the right address is told."""
    with upstream(parrot, kind=kind) as server:
        told = problem_of(root(server.url))
    assert told is not None
    assert told.endswith(f"has: give --upstream {server.url}")


PROBLEMS = {
    Locked: "does not accept the API key: set HERMES_UPSTREAM_KEY.",
    Other: "mostly ends in /v1.",
    Broken: "answers 500 where its models are listed.",
}


@pytest.mark.parametrize(("kind", "told"), PROBLEMS.items(), ids=lambda each: str(each)[:20])
def test_other_problems_are_told_apart(kind: type[Upstream], told: str) -> None:
    """A wrong key, another kind of server and one that fails are told as such."""
    with upstream(parrot, kind=kind) as server:
        problem = problem_of(server.url)
    assert problem is not None
    assert problem.startswith(server.url)
    assert problem.endswith(told)


def test_the_log_has_the_address_and_who_asks_has_not(tmp_path: Path) -> None:
    """An upstream that is away is told at the start and by its failures, with its address."""
    address = f"http://127.0.0.1:{free_port()}/v1"
    with demo(tmp_path, "--upstream", address) as url:
        log = (tmp_path / "server.log").read_text()
        assert f"The upstream: Nothing listens at {address}: start that server" in log
        body = {"messages": [{"role": "user", "content": "a secret of mine"}]}
        refused = httpx2.post(f"{url}/v1/chat/completions", json=body)
        assert refused.status_code == 502
        told = refused.json()["error"]
        assert (told["code"], address in refused.text) == ("upstream_unreachable", False)
    log = (tmp_path / "server.log").read_text()
    assert re.search(rf"WARNING: .*{re.escape(address)}/?: {re.escape(told['message'])}", log)
    assert "a secret of mine" not in log
    assert refused.headers["X-Hermes-Session-Id"] not in log
