"""The page about the demo is true: its curl lines print what it says."""

import re
from pathlib import Path

import pytest

from .server import ROOT, demo
from .test_readme import DEMO_URL, _shell, promised

PAGES = ["demo.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_curl_lines_work_as_printed(page: str, tmp_path: Path) -> None:
    """Pasted one after another, each block prints what is promised under it."""
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    with demo(tmp_path) as url:
        for code in blocks:
            output = _shell(code.replace(DEMO_URL, url))
            assert promised(code)
            assert [line for line in promised(code) if line not in output] == []
