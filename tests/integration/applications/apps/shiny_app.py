"""A page of Shiny, whose conversation is the browser's."""

from collections.abc import Callable
from pathlib import Path

from shiny import App, Inputs, Outputs, Session, reactive, render, ui
from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.integration.applications import documented


def make(_: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    cookie: Callable[[ASGIApp], ASGIApp] = documented.define("pages.md", "SessionCookie")
    page = ui.page_fluid(ui.input_action_button("press", "Remember"), ui.output_text("told"))
    return cookie(HermesSessionMiddleware(App(page, serve), store))


def serve(input: Inputs, output: Outputs, session: Session) -> None:  # noqa: A002  # Shiny's name
    """Serve one page that is open."""
    hermes = session.http_conn.state.hermes_session
    text = reactive.value(hermes.id)

    @reactive.effect
    @reactive.event(input.press)
    async def remember() -> None:
        before = await hermes.load()
        await hermes.append({"role": "user", "content": "pressed"})
        text.set(f"{hermes.id} {len(before)}")

    @render.text
    def told() -> str:
        return str(text.get())
