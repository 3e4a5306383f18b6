"""A browser, as NiceGUI has no client of its own."""

from pathlib import Path

import anyio.to_thread
from playwright.sync_api import expect

from tests.support.browser import chromium


async def use(url: str, _: Path, __: dict[str, str]) -> list[str]:
    """Press the page's button, load the page again, and press it again."""

    def press() -> list[str]:
        seen = []
        with chromium() as browser:
            page = browser.new_page()
            for count in range(2):
                page.goto(url)
                page.get_by_role("button", name="Remember").click()
                told = page.get_by_text(f" {count}")
                expect(told).to_be_visible(timeout=60_000)
                seen.append(told.inner_text().split()[0])
        return seen

    return await anyio.to_thread.run_sync(press)
