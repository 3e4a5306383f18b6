"""MCP's own client, over streamable HTTP."""

from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.integration.applications import gate


async def use(url: str, folder: Path, headers: dict[str, str]) -> list[str]:
    """Call tools, the last of which reports its progress before it returns."""
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {"remember", "count"}
        seen = []
        for text in ("one", "two"):
            found = await client.call_tool("remember", {"text": text})
            assert not found.is_error, found
            seen.append(found.structured_content["result"])
        if headers:
            assert [before for _, *before in seen] == [[], ["one"]]

        async def heard(_done: float, _of: float | None, message: str | None) -> None:
            assert message == gate.PIECES[0]
            gate.let_go(folder)

        told = await client.call_tool("count", progress_callback=heard)
        assert told.structured_content == {"result": gate.PIECES[1]}
    return [session_id for session_id, *_ in seen]
