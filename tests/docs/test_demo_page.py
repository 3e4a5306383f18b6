"""The demo's page is true: its lines, run in order, print what its comments say."""

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.test_readme import DEMO_URL, promised
from tests.support.server import ROOT, demo
from tests.support.upstreams import parrot, upstream

UPSTREAM_URL = "http://127.0.0.1:11434/v1"

PAGE = (ROOT / "docs" / "demo.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def options_of(line: str) -> tuple[list[str], dict[str, str]]:
    """Return the demo's options and environment for a line that starts it with make."""
    before, _, after = line.partition("make demo")
    options = [part for name, value in re.findall(r"(\S+)=(\S+)", after)
               for part in (f"--{name.lower().replace('_', '-')}", value)]  # fmt: skip
    return options, dict(re.findall(r"(\S+)=(\S+)", before))


def test_the_lines_print_what_the_page_says(tmp_path: Path) -> None:
    """Each block runs against a demo that was started as the last start on the page says."""
    starts = 0
    with upstream(parrot) as server, ExitStack() as running:
        for block in BLOCKS:
            code = block.replace(UPSTREAM_URL, server.url)
            if "curl" not in code:
                running.close()
                options, environment = options_of(code)
                start = running.enter_context(pytest.MonkeyPatch.context())
                for name, value in environment.items():
                    start.setenv(name, value)
                url = running.enter_context(demo(tmp_path, *options))
                starts += 1
                continue
            done = subprocess.run(
                ["sh", "-c", code.replace(DEMO_URL, url)],
                capture_output=True, text=True, check=True, timeout=280, cwd=tmp_path,
            )  # fmt: skip
            assert promised(code), code
            missing = [text for text in promised(code) if text not in done.stdout]
            assert missing == [], done.stdout
    assert (starts, len(BLOCKS)) == (6, 26)
