"""Every client is tried with every feature, and docs/clients.md has a table of what was seen.

After a change that is meant, write the tables anew with ``make clients``.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.demo.clients.demos import Demo, a_session_id
from tests.demo.clients.matrix import (
    BACKGROUND,
    FEATURES,
    WAYS,
    Case,
    Client,
    Driver,
    cell,
    driving,
    restart,
)
from tests.demo.clients.scripted import scripted
from tests.support.litellm_proxy import config_before, litellm_proxy
from tests.support.requirements import needs
from tests.support.server import ROOT, demo, free_port
from tests.support.upstreams import upstream

# The first of the tests waits for all the clients.
pytestmark = pytest.mark.timeout(900)

LITELLM = "LiteLLM"
AGENTS = tuple(WAYS)
PREVIOUS, SDK = AGENTS[:1], AGENTS[:2]
BOTH, STREAMED = tuple(BACKGROUND), tuple(BACKGROUND)[1:]
CLIENTS = [
    Client("openai, Python", "openai-python", "openai_python", ways=SDK, background=BOTH),
    Client("openai, npm", "openai-npm", "openai.mjs", ways=SDK, background=BOTH),
    Client(
        "openai-agents, Python", "openai-agents-python", "openai_agents_python",
        ways=AGENTS, background=STREAMED,
    ),
    Client("openai-agents, npm", "openai-agents-npm", "openai_agents.mjs", ways=AGENTS),
    Client(
        "LangChain, Python", "langchain-python", "langchain_python",
        ways=PREVIOUS, background=STREAMED,
    ),
    Client("LangChain, npm", "langchain-npm", "langchain.mjs", ways=PREVIOUS),
    Client("AI SDK, `openai`", "ai", "ai.mjs", ways=PREVIOUS),
    Client("AI SDK, `openai-compatible`", "ai", "ai.mjs compatible", ("chat",)),
    Client("Pydantic AI", "pydantic-ai", "pydantic_ai", ways=SDK, background=BOTH),
    Client("LlamaIndex", "llama-index", "llama_index", ways=PREVIOUS),
    Client(LITELLM, ".litellm", "litellm_python", ways=PREVIOUS),
    Client("LiteLLM's proxy", "openai-python", "openai_python", ways=PREVIOUS, proxied=True),
]  # fmt: skip
KEY = "unused"
NAMES = {"chat": "Chat Completions", "responses": "Responses"}
CELLS = [(client, style, name) for client in CLIENTS for style, name, _ in client.tried()]

EVERY = "every client"
NOT_YET: dict[tuple[str, str, str], str] = {}
"""What does not work, by client, API and feature, and why: the page lists it."""

PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- make clients writes from here -->\n", "<!-- to here -->\n"


class Outcome(NamedTuple):
    """What was seen: cells by client, API and feature, and the clients' versions."""

    cells: dict[tuple[str, str, str], str]
    versions: dict[str, str]


class Trial:
    """All the clients at work, some at once."""

    def __init__(self, drivers: dict[Client, Driver], served: Demo) -> None:
        self._drivers = drivers
        self._served = served
        self._before = a_session_id()
        self.cells: dict[tuple[str, str, str], str] = {}

    def all_but_restarts(self) -> None:
        """Try every feature, and say something that is to outlast the server."""
        self._each(self._try)

    def restarts(self) -> None:
        """Try what the first server's restart left."""
        self._each(self._try_after)

    def _each(self, tried: Callable[[Client, Driver], None]) -> None:
        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(tried, *each) for each in self._drivers.items()]:
                done.result()

    def _try(self, client: Client, driver: Driver) -> None:
        for style in client.styles:
            driver.attempt(style, self._kept(client, style), "I am Ada.")
        for style, name, feature in client.tried():
            if feature is not restart:
                case = Case(driver, style, self._served, a_session_id())
                self.cells[client.name, style, name] = cell(feature, case)

    def _try_after(self, client: Client, driver: Driver) -> None:
        for style in client.styles:
            case = Case(driver, style, self._served, self._kept(client, style))
            self.cells[client.name, style, "restart"] = cell(restart, case)

    def _kept(self, client: Client, style: str) -> str:
        return f"{self._before}-{CLIENTS.index(client)}-{style}"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Drive the demo with all the clients that are installed, and restart it in between."""
    folder, port = tmp_path_factory.mktemp("clients"), free_port()
    served = Demo(f"http://127.0.0.1:{port}", folder, KEY)
    found = [client for client in CLIENTS if not client.missing]
    with ExitStack() as running, upstream(scripted) as model:
        drivers, api = {}, served.api
        for n, client in enumerate(sorted(found, key=lambda client: client.proxied)):
            if client.proxied:  # the others are imported while it starts
                proxy = litellm_proxy(tmp_path_factory.mktemp("proxy"), served.api, config_before)
                api = running.enter_context(proxy)
            log = folder / f"driver{n}.log"
            drivers[client] = running.enter_context(driving(client, api, log))
        trial = Trial(drivers, served)
        for part in (trial.all_but_restarts, trial.restarts):
            with demo(
                folder, "--upstream", model.url, "--derive-ids", port=port, HERMES_API_KEYS=KEY
            ):
                part()
        versions = {client.name: each.versions for client, each in drivers.items()}
        for client in found:
            versions[client.name] += f", {versions[LITELLM]}" if client.proxied else ""
        return Outcome(trial.cells, versions)


@pytest.mark.parametrize(
    ("client", "style", "feature"), CELLS, ids=lambda each: getattr(each, "name", each)
)
def test_a_client_and_a_feature(client: Client, style: str, feature: str, outcome: Outcome) -> None:
    """A feature works with a client, unless it is told that it does not yet."""
    needs(client.missing)
    seen = outcome.cells[client.name, style, feature]
    excused = {(EVERY, style, feature), (client.name, style, feature)} & NOT_YET.keys()
    assert seen.startswith("no") == bool(excused), seen


def test_the_tables_on_the_page_are_what_was_seen(outcome: Outcome) -> None:
    """The page's tables are this run's."""
    for client in CLIENTS:
        needs(client.missing)
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    now = "".join([before, BEGIN, *tables(outcome), END, rest.partition(END)[2]])
    if os.environ.get("HERMES_WRITE_CLIENTS"):
        PAGE.write_text(now)
    assert now == PAGE.read_text()


def test_every_environment_is_a_clients_and_pins_its_packages() -> None:
    """What is installed is driven, in the versions that were tried."""
    files = list((Path(__file__).parent / "environments").iterdir())
    of_pages = {"node", "ai-react", "ag-ui"}
    used = {client.environment for client in CLIENTS} | of_pages
    assert {file.stem for file in files} == used - {".litellm"}
    for file in files:
        if file.suffix == ".txt":
            assert all("==" in line for line in file.read_text().splitlines()), file
        else:
            told = json.loads(file.read_text())
            wanted = told.get("dependencies", {}) | told.get("optionalDependencies", {})
            assert all(version[0].isdigit() for version in wanted.values()), file


def tables(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of the tables."""
    for style, name in NAMES.items():
        yield from table(outcome, name, style, FEATURES)
    yield from table(outcome, "Without the header", "responses", WAYS)
    yield from table(outcome, "In the background", "responses", BACKGROUND)
    yield "\n"
    if NOT_YET:
        yield "What does not work:\n\n"
        yield from (f"- {c}, {NAMES[s]}, {f}: {why}\n" for (c, s, f), why in NOT_YET.items())


def table(outcome: Outcome, title: str, style: str, features: Iterable[str]) -> Iterator[str]:
    """Yield the lines of one table: a client a row, a feature a column."""
    yield f"\n### {title}\n\n| client | {' | '.join(features)} |\n|---"
    yield f"{'|---' * len(list(features))}|\n"
    for client in CLIENTS:
        seen = [outcome.cells.get((client.name, style, feature)) for feature in features]
        if any(seen):
            cells = [(each or "-").partition(":")[0] for each in seen]
            yield f"| {client.name}<br>{outcome.versions[client.name]} | {' | '.join(cells)} |\n"
