"""The page whose program has one conversation in every framework."""

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "one-conversation.md"


def test_the_program_runs(tmp_path: Path) -> None:
    """The page's program runs as it stands there, in a process of its own."""
    program = tmp_path / "one_conversation.py"
    program.write_text(PAGE.read_text().split("```python one_conversation.py\n")[1].split("```")[0])
    paths = [str(PAGE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = subprocess.run(
        [sys.executable, program.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "The endpoint knows" in run.stdout
