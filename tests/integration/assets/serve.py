"""Serves one framework's smallest application behind the middleware, in an environment of its own.

``python -m tests.integration.assets.serve NAME PORT FOLDER [PATH]``: with a path it is excluded.
"""

import os
import sys
from pathlib import Path
from typing import Any

import uvicorn

from hermes_session_mw import HermesSessionMiddleware, MemoryStore

NOTEBOOK = "import marimo\napp = marimo.App()\n@app.cell\ndef _():\n    1\n    return\n"


def nicegui() -> Any:
    """Return a page of NiceGUI in a FastAPI application."""
    from fastapi import FastAPI
    from nicegui import ui

    app = FastAPI()

    @ui.page("/")
    def page() -> None:
        ui.markdown("**hello**")

    ui.run_with(app)
    return app


def datasette() -> Any:
    """Return Datasette over an empty database."""
    from datasette.app import Datasette

    return Datasette(memory=True).app()


def shiny() -> Any:
    """Return a page of Shiny."""
    from shiny import App, ui

    return App(ui.page_fluid(ui.input_slider("n", "n", 0, 1, 0)), None)


def marimo() -> Any:
    """Return a notebook of marimo."""
    import marimo

    Path("notebook.py").write_text(NOTEBOOK)
    return marimo.create_asgi_app().with_app(path="", root="notebook.py").build()


def gradio() -> Any:
    """Return a page of Gradio in a FastAPI application."""
    import gradio
    from fastapi import FastAPI

    with gradio.Blocks() as demo:
        gradio.Markdown("hello")
    return gradio.mount_gradio_app(FastAPI(), demo, path="/")


def panel() -> Any:
    """Return a page of Panel in a FastAPI application."""
    from fastapi import FastAPI
    from panel.io.fastapi import add_application
    from panel.pane import Markdown

    app = FastAPI()

    @add_application("/", app=app, title="hello")  # type: ignore[untyped-decorator,unused-ignore]
    def page() -> Any:
        return Markdown("hello")

    return app


def chainlit() -> Any:
    """Return a chat of Chainlit in a FastAPI application."""
    from chainlit.utils import mount_chainlit
    from fastapi import FastAPI

    Path("chat.py").write_text("import chainlit\n")
    app = FastAPI()
    mount_chainlit(app=app, target="chat.py", path="/chat")
    return app


MADE = {
    each.__name__: each for each in (nicegui, datasette, shiny, marimo, gradio, panel, chainlit)
}

if __name__ == "__main__":
    name, port, folder, *excluded = sys.argv[1:]
    os.chdir(folder)
    app = HermesSessionMiddleware(MADE[name](), MemoryStore(), exclude=excluded)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error")
