"""The command's page is true: its lines, run in order, print what its comments say."""

import os
import re
import subprocess
from pathlib import Path

from tests.docs.test_readme import promised
from tests.support.command import environment, script_in
from tests.support.server import ROOT

PAGE = (ROOT / "docs" / "command.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_lines_print_what_the_page_says(tmp_path: Path) -> None:
    """Each block runs in a folder of its own, after the ones before it, and prints its comments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    folder = tmp_path / "empty"
    folder.mkdir()
    variables = environment(PATH=script_in(programs))
    variables.pop("HERMES_STORE", None)
    for code in BLOCKS:
        done = subprocess.run(
            ["sh", "-c", code],
            capture_output=True, text=True, check=True, timeout=280, cwd=folder, env=variables,
        )  # fmt: skip
        assert promised(code), code
        missing = [text for text in promised(code) if text not in done.stdout]
        assert missing == [], done.stdout + done.stderr
    assert len(BLOCKS) == 13
    assert not os.path.exists(folder / "missing.db")  # noqa: PTH110


def test_the_page_and_the_help_have_the_same_exit_codes() -> None:
    """What the page's table says of exit codes is what ``--help`` says."""
    from hermes_session_mw.cli.app import cli  # noqa: PLC0415

    of_page = re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)
    assert of_page == re.findall(r"^  (\d+) ", cli.epilog or "", flags=re.MULTILINE)
