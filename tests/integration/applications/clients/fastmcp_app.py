"""FastMCP's own client."""

from pathlib import Path

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from tests.integration.applications import gate


async def use(url: str, folder: Path, headers: dict[str, str]) -> list[str]:
    """Call tools, the last of which reports its progress before it returns."""

    async def heard(_done: float, _of: float | None, message: str | None) -> None:
        assert message == gate.PIECES[0]
        gate.let_go(folder)

    async with Client(StreamableHttpTransport(f"{url}/mcp", headers=headers)) as client:
        assert {tool.name for tool in await client.list_tools()} == {"remember", "count"}
        seen = [(await client.call_tool("remember", {"text": text})).data for text in ("1", "2")]
        if headers:
            assert [before for _, *before in seen] == [[], ["1"]]
        told = await client.call_tool("count", progress_handler=heard)
        assert told.data == gate.PIECES[1]
    return [session_id for session_id, *_ in seen]
