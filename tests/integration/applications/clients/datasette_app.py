"""Asks Datasette's JSON API, and a page of the plugin."""

from pathlib import Path

import httpx2


async def use(url: str, _: Path, headers: dict[str, str]) -> list[str]:
    """Run a query, and ask the plugin twice."""
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        params = {"sql": "select 1 as one", "_shape": "array"}
        found = await client.get("/_memory.json", params=params, follow_redirects=True)
        assert found.json() == [{"one": 1}]
        pages = [(await client.get("/remember")).json() for _ in range(2)]
    if headers:
        assert [count for _, count in pages] == [0, 1]
    return [session_id for session_id, _ in pages]
