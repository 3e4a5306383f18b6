"""Gradio's own client."""

from pathlib import Path

import anyio.to_thread
from gradio_client import Client

from tests.integration.applications import gate


async def use(url: str, folder: Path, headers: dict[str, str]) -> list[str]:
    """Call a function twice, and one that yields before it goes on."""

    def call() -> list[str]:
        client = Client(f"{url}/ui/", headers=headers, verbose=False, analytics_enabled=False)
        said = [client.predict(text, api_name="/remember").split() for text in ("1", "2")]
        if headers:
            assert [count for _, count in said] == ["0", "1"]
        job = client.submit(api_name="/count")
        pieces = iter(job)
        assert next(pieces) == gate.PIECES[0]
        gate.let_go(folder)
        assert next(pieces) == gate.PIECES[1]
        return [session_id for session_id, _ in said]

    return await anyio.to_thread.run_sync(call)
