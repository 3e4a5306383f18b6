"""A browser, for pages that have no client of their own."""

import re
from pathlib import Path

import anyio.to_thread
from playwright.sync_api import expect

from tests.support.browser import chromium

ID = re.compile(r"^[\w-]{32,}$")


async def use(url: str, _: Path, __: dict[str, str]) -> list[str]:
    """Press the page's button, load the page again, and press it again."""

    def press() -> list[str]:
        seen = []
        with chromium() as browser:
            page = browser.new_page()
            for count in range(2):
                page.goto(url)
                # Not before the server has spoken: who listens for a press may come with it.
                expect(page.get_by_text(ID)).to_be_visible()
                page.get_by_role("button", name="Remember").click()
                told = page.get_by_text(re.compile(rf"^\S+ {count}$"))
                expect(told).to_be_visible()
                seen.append(told.inner_text().split()[0])
        return seen

    return await anyio.to_thread.run_sync(press)
