"""The applications that docs/conformance.md has a row for, and what is asked of each."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.server import ROOT

HERE = Path(__file__).parent
OWN = ROOT / ".applications"


@dataclass(frozen=True)
class Ask:
    """A request."""

    path: str
    method: str = "GET"
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Application:
    """One application, and what is asked of it; what is None it does not have.

    Attributes:
        name: the row's head.
        module: its module in ``apps``, and in ``clients`` if it has a client.
        package: its distribution.
        environment: the folder of what it runs in, beside the Makefile.
        mounted: how the middleware is put around it.
        pages: what is answered whole: a page, what is not there, an exception that nobody handles.
        stream: what comes piece by piece, by ``gate``.
        accepted: a WebSocket's handshake that is accepted.
        denied: one that is not.
        file: a file of its own for browsers.
        client: what the client is called.
        is_told: how the client is told a header; None if it cannot be.
        driver: the client's module in ``clients``; None if it has the application's name.
        reached: how its handlers reach the session.
        is_driven_here: whether its client runs in the tests' own environment.
        ready: what is answered when it serves.
        has_lifespan: whether it has a lifespan of its own.
    """

    name: str
    module: str
    package: str
    environment: str
    mounted: str
    pages: tuple[Ask, ...] = ()
    stream: Ask | None = None
    accepted: Ask | None = None
    denied: Ask | None = None
    file: str | None = None
    client: str | None = None
    is_told: str | None = None
    driver: str | None = None
    reached: str | None = None
    ready: str = "/"
    has_lifespan: bool = True
    is_driven_here: bool = False

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / self.environment / "bin" / "python"

    @property
    def client_python(self) -> str:
        """The interpreter that its client runs by."""
        return sys.executable if self.is_driven_here else str(self.python)

    @property
    def missing(self) -> str | None:
        """What has to be made before it can be run, if it was not."""
        made = (ROOT / self.environment / ".installed").exists()
        return None if made else f"no {self.name}: make {self.environment}/.installed"

    def version(self) -> str:
        """Return the version that is installed."""
        name = re.sub(r"[-_.]+", "[-_.]+", self.package)
        pattern = re.compile(rf"{name}-([^-]*)\.dist-info", re.IGNORECASE)
        folders = self.python.parents[1].glob("lib/*/site-packages/*.dist-info")
        (found,) = {match[1] for path in folders if (match := pattern.fullmatch(path.name))}
        return found


def page(name: str, module: str, package: str, *, reached: str, **more: Any) -> Application:
    """Return the row of a page of docs/frameworks/pages.md, whose browser has a cookie."""
    pages = (Ask("/"), Ask("/nothing"), Ask("/", "DELETE"))
    return Application(
        name, module, package, ".assets", "wrapped, with a cookie", pages,
        client="Chromium", driver="browser_client", reached=reached, is_driven_here=True,
        has_lifespan=False, **more,
    )  # fmt: skip


def web(name: str, module: str, package: str, *asks: Ask, reached: str, **more: Any) -> Application:
    """Return the row of a chat of docs/frameworks/others.md."""
    pages = (Ask("/page"), Ask("/nothing"), *asks, Ask("/busy"), Ask("/error"))
    stream = Ask("/chat", "POST", {"text": "Hello."})
    return Application(
        name, module, package, ".applications/web", "wrapped", pages, stream,
        client="httpx, websockets", is_told="`headers=`", driver="web_client", reached=reached,
        ready="/page", **more,
    )  # fmt: skip


APPLICATIONS = [
    Application(
        "MCP's Python SDK", "mcp_sdk", "mcp", ".frameworks", "`install`",
        pages=(Ask("/page"), Ask("/nothing"), Ask("/error")),
        client="`mcp.Client`", is_told="`http_client=`",
        reached="`context.request_context.request`",
        ready="/page",
    ),
    Application(
        "FastMCP", "fastmcp_app", "fastmcp", ".applications/small", "`install`",
        pages=(Ask("/page"), Ask("/nothing"), Ask("/error")),
        client="`fastmcp.Client`", is_told="`headers=`",
        reached="`get_http_request()`",
        ready="/page",
    ),
    Application(
        "Gradio", "gradio_app", "gradio", ".assets", "`install`",
        pages=(Ask("/ui/"), Ask("/nothing"), Ask("/error")),
        file="/ui/theme.css",
        client="`gradio_client`", is_told="`headers=`",
        reached="`request.request` of a `gradio.Request`",
        ready="/ui/",
    ),
    Application(
        "NiceGUI", "nicegui_app", "nicegui", ".assets", "`install`",
        pages=(Ask("/"), Ask("/nothing"), Ask("/error")),
        accepted=Ask("/_nicegui_ws/socket.io/?EIO=4&transport=websocket"),
        client="Chromium", driver="browser_client", is_driven_here=True,
        reached="the page's `Request`, also as its buttons are pressed",
    ),
    Application(
        "Chainlit", "chainlit_app", "chainlit", ".assets", "`install`",
        pages=(Ask("/chat"), Ask("/nothing"), Ask("/error")),
        accepted=Ask("/chat/ws/socket.io/?EIO=4&transport=websocket"),
        client="`socketio.AsyncClient`", is_told="`headers=`",
        reached='`chainlit.context.session.environ["asgi.scope"]`',
        ready="/chat",
    ),
    Application(
        "Datasette", "datasette_app", "datasette", ".assets", "wrapped",
        pages=(Ask("/"), Ask("/nothing"), Ask("/error")),
        stream=Ask("/stream"), denied=Ask("/nothing"),
        client="httpx2", is_told="`headers=`",
        reached='`request.scope["state"]`',
    ),
    Application(
        "FastHTML", "fasthtml_app", "python-fasthtml", ".applications/small", "`install`",
        pages=(Ask("/page"), Ask("/nothing"), Ask("/error")),
        stream=Ask("/stream"), accepted=Ask("/live"), denied=Ask("/nothing"), file="/own.css",
        client="httpx2 with the page's `hx-headers`",
        reached="`request.state`",
        ready="/page",
    ),
    Application(
        "starlette-admin", "admin_app", "starlette-admin", ".applications/small", "`install`",
        pages=(
            Ask("/admin/"), Ask("/admin/note/list"), Ask("/admin/nothing"),
            Ask("/admin/note/create", "POST"), Ask("/admin/conversation/error"),
        ),
        stream=Ask("/admin/conversation/stream"), denied=Ask("/admin/nothing"),
        file="/admin/static/js/form.js",
        client="httpx2", is_told="`headers=`",
        reached="`request.state` in hooks and views",
        ready="/admin/",
    ),
    Application(
        "python-socketio", "socketio_app", "python-socketio", ".applications/small", "wrapped",
        pages=(Ask("/nothing"),),
        accepted=Ask("/socket.io/?EIO=4&transport=websocket"),
        denied=Ask("/socket.io/?EIO=3&transport=websocket"),
        client="`socketio.AsyncClient`", is_told="`headers=`",
        reached='`environ["asgi.scope"]` as a client connects',
        ready="/socket.io/?EIO=4&transport=polling",
    ),
    Application(
        "Strawberry", "strawberry_app", "strawberry-graphql", ".applications/small", "wrapped",
        pages=(
            Ask("/graphql/", "POST", {"query": "{ hello }"}), Ask("/nothing"),
            Ask("/graphql/", "POST", {"query": "{ error }"}), Ask("/graphql/", "POST", {}),
        ),
        stream=Ask(
            "/graphql/", "POST", {"query": "subscription { pieces }"},
            {"Accept": "text/event-stream"},
        ),
        accepted=Ask("/graphql/", subprotocols=("graphql-transport-ws",)),
        denied=Ask("/nothing"),
        client="aiohttp over `graphql-transport-ws`", is_told="`headers=`",
        reached='`info.context["request"]`',
        ready="/page",
    ),
    web(
        "Falcon", "falcon_app", "falcon", Ask("/page", "DELETE"),
        accepted=Ask("/chat"), denied=Ask("/closed"), file="/static/page.js",
        reached='`req.scope["state"]`',
    ),
    web(
        "BlackSheep", "blacksheep_app", "blacksheep", Ask("/page", "DELETE"),
        accepted=Ask("/chat"), denied=Ask("/closed"), file="/static/page.js",
        reached='`request.scope["state"]`',
    ),
    web(
        "Sanic", "sanic_app", "sanic", Ask("/page", "DELETE"),
        accepted=Ask("/live"), denied=Ask("/nothing"), file="/static/page.js",
        reached='`request.scope["state"]`',
    ),
    web(
        "Channels", "channels_app", "channels",
        accepted=Ask("/live"), denied=Ask("/closed"), reached='`self.scope["state"]`',
    ),
    web(
        "Connexion", "connexion_app", "connexion", Ask("/page", "DELETE"),
        Ask("/chat", "POST", {}), denied=Ask("/nothing"), reached="`request.state`",
    ),
    web(
        "Flask, by a2wsgi", "flask_app", "a2wsgi", Ask("/page", "DELETE"),
        denied=Ask("/nothing"), file="/static/page.js",
        reached='`environ["asgi.scope"]["state"]`', has_lifespan=False,
    ),
    page(
        "Shiny", "shiny_app", "shiny",
        accepted=Ask("/websocket/"), denied=Ask("/nothing"), file="/lib/shiny-1.8.0/shiny.js",
        reached="`session.http_conn.state`",
    ),
    page(
        "Panel", "panel_app", "panel",
        denied=Ask("/ws"), file="/static/js/bokeh.min.js", reached="`pn.state.headers`, its id",
    ),
    page(
        "marimo", "marimo_app", "marimo",
        accepted=Ask("/ws?session_id=s_abc123"), denied=Ask("/nothing"), file="/favicon.ico",
        reached="`mo.app_meta().request.headers`, its id",
    ),
]  # fmt: skip
