"""Hermes Agent's own API server and the demo, over one model and one database."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

from tests.demo.hermes_api.model import Model
from tests.stores.hermes_state.agent import CODE
from tests.support.requirements import needs
from tests.support.server import ROOT, demo, free_port, serving

PYTHON = ROOT / ".frameworks" / "bin" / "python"
"""It has what Hermes' gateway imports: aiohttp, the SDK of its models, ..."""

HERE = Path(__file__).parent
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
ORIGIN = "https://chat.example"
ID = "X-Hermes-Session-Id"
KEY, OTHER_KEY = (hashlib.sha256(name).hexdigest() for name in (b"ada", b"bob"))

CONFIG = """\
model:
  default: raw
  provider: custom
  base_url: {url}
  api_key: not-a-secret-of-anybody
  context_length: 128000
platform_toolsets:
  api_server: []
"""


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        status: the status code.
        headers: the header fields.
        data: the body.
    """

    status: int
    headers: HTTPMessage
    data: bytes

    @property
    def id(self) -> str | None:
        """The session's id."""
        return self.headers.get(ID)

    @cached_property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.data)

    @property
    def error(self) -> Any:
        """The body's error."""
        return self.json["error"]

    @cached_property
    def events(self) -> list[Any]:
        """What the events of a stream have as data."""
        found = re.findall(r"(?m)^data: (.*)$", self.data.decode())
        return [each if each == "[DONE]" else json.loads(each) for each in found]

    @property
    def told(self) -> str:
        """What the model was told, which is its answer."""
        if "choices" in self.json:
            text: str = self.json["choices"][0]["message"]["content"]
            return text
        items = [item for item in self.json["output"] if item["type"] == "message"]
        return "".join(part["text"] for part in items[-1]["content"])


@dataclass
class Server:
    """One of the two.

    Attributes:
        name: the ids of its sessions begin with it.
        port: where it is, on this machine.
        model: the model behind it.
        key: the API key that is sent, None for none.
        keyless: the same without API keys, None if it does not start.
        other: the other server.
        patience: the seconds within which what must not happen here would be seen.
    """

    name: str
    port: int
    model: Model
    key: str | None = KEY
    keyless: "Server | None" = None
    other: "Server | None" = field(default=None, repr=False)
    patience: float = 0.5

    def session(self, name: str) -> str:
        """Return a session's id that only one check uses."""
        return f"{self.name}-{name}"

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Sequence[tuple[str, str]] | Mapping[str, str] = (),
        *,
        key: str | None = "",
    ) -> Answer:
        """Send a request; ``key`` is another API key than the server's, None for none."""
        connection = self.begin(method, path, body, headers, key=key)
        response = connection.getresponse()
        answer = Answer(response.status, response.msg, response.read())
        connection.close()
        return answer

    def begin(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Sequence[tuple[str, str]] | Mapping[str, str] = (),
        *,
        key: str | None = "",
    ) -> HTTPConnection:
        """Send a request, and return the connection that its response comes on."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path)
        fields = [*(headers.items() if isinstance(headers, Mapping) else headers)]
        bearer = self.key if key == "" else key
        if bearer is not None:
            fields.append(("Authorization", f"Bearer {bearer}"))
        if method != "GET":
            fields += [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        for name, value in fields:
            connection.putheader(name, value)
        connection.endheaders(data or None)
        return connection

    def chat(
        self,
        *messages: str | dict[str, Any],
        session: str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = "",
        **fields: Any,
    ) -> Answer:
        """Ask the chat; a string is a user's message."""
        body, named = chat_body(messages, fields), id_header(session)
        return self.send("POST", CHAT, body, {**named, **(headers or {})}, key=key)

    def respond(self, text: str, *, session: str | None = None, **fields: Any) -> Answer:
        """Ask for a response."""
        return self.send("POST", RESPONSES, {"input": text, **fields}, id_header(session))


def chat_body(
    messages: Sequence[str | dict[str, Any]], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the body of a chat's request; a string is a user's message."""
    told = [
        {"role": "user", "content": each} if isinstance(each, str) else each for each in messages
    ]
    return {"messages": told, **fields}


def id_header(session: str | None) -> dict[str, str]:
    """Return the header that names the session, if there is one."""
    return {} if session is None else {ID: session}


@contextmanager
def both(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Serve Hermes, and the demo over Hermes' database, until the block ends."""
    if not (CODE / "hermes_state.py").exists():
        needs("no Hermes Agent in .hermes-agent: run 'make .hermes-agent/.installed'")
    if not PYTHON.exists():
        needs("no frameworks in .frameworks: run 'make .frameworks/.installed'")
    model = Model()
    folders = {name: folder / name for name in ("hermes", "demo", "keyless")}
    for each in folders.values():
        each.mkdir()
    with ExitStack() as stack:
        stack.enter_context(model.serving())
        hermes = Server("hermes", free_port(), model, patience=30)
        stack.enter_context(_serve_hermes(hermes, folders["hermes"]))
        log = (folders["hermes"] / "server.log").read_text()
        assert "without a key: False\nwith a key: True\n" in log
        store = f"hermes:{folders['hermes'] / 'state.db'}"
        options = ["--store", store, "--upstream", model.url, "--cors-origins", ORIGIN]
        ours, open_to_all = free_port(), free_port()
        keys = {"HERMES_API_KEYS": f"{KEY},{OTHER_KEY}"}
        stack.enter_context(demo(folders["demo"], *options, port=ours, **keys))
        stack.enter_context(demo(folders["keyless"], *options, port=open_to_all))
        keyless = Server("keyless", open_to_all, model, key=None)
        tried = Server("demo", ours, model, keyless=keyless, other=hermes)
        hermes.other = keyless
        yield hermes, tried


@contextmanager
def _serve_hermes(server: Server, folder: Path) -> Iterator[None]:
    (folder / "config.yaml").write_text(CONFIG.format(url=server.model.url))
    command = [str(PYTHON), "-P", str(HERE / "serve.py"), str(server.port), ORIGIN, KEY]
    environment = {
        "PYTHONPATH": str(CODE),
        "HERMES_HOME": str(folder),
        # Half of a turn's time went into reading all authorities' certificates, eight times.
        "HERMES_SKIP_SSL_GUARD": "1",
        "SSL_CERT_FILE": str(_one_certificate(folder)),
    }
    with serving(command, server.port, folder, ready="/health", **environment):
        yield


def _one_certificate(folder: Path) -> Path:
    (bundle,) = PYTHON.parents[1].glob("lib/python*/site-packages/certifi/cacert.pem")
    end = "-----END CERTIFICATE-----\n"
    path = folder / "one.pem"
    path.write_text(bundle.read_text().partition(end)[0] + end)
    return path
