"""The ``llm`` command, with a configuration of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.demo.clients.demos import API_KEY, HEADER

# Whatever would leave the machine ends at a port that nobody listens on.
NOWHERE = "http://127.0.0.1:9"


class Llm(NamedTuple):
    """Somebody who uses the command.

    Attributes:
        folder: where it keeps its configuration and its log.
    """

    folder: Path

    def configure(self, api: str, **headers: str) -> None:
        """Make the demo the model ``demo``, with these headers, and with a key by this name."""
        model = {
            "model_id": "demo",
            "model_name": "hermes-demo",
            "api_base": api,
            "headers": headers,
            "api_key_name": "demo",
        }
        (self.folder / "keys.json").write_text(json.dumps({"demo": API_KEY}))
        # JSON is YAML.
        (self.folder / "extra-openai-models.yaml").write_text(json.dumps([model]))

    def run(self, *arguments: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the command; ``typed`` is what it reads from its standard input."""
        return subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env=self.environment(),
            cwd=self.folder,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def environment(self) -> dict[str, str]:
        """Return what the command finds in its environment: none of the machine's keys.

        Nor is it measured, since tracing makes it several times as slow.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COVERAGE_", "LLM_", "OPENAI_")) and name != "PYTHONWARNINGS"
        }
        nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
        nowhere |= {name.lower(): value for name, value in nowhere.items()}
        direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return {**kept, **nowhere, **direct, "LLM_USER_PATH": str(self.folder)}

    def says(self, *arguments: str, typed: str = "") -> str:
        """Return what the command prints of an answer."""
        done = self.run(*arguments, typed=typed)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def llm_of(folder: Path, api: str, session_id: str) -> Llm:
    """Return a command whose conversation with the demo has this id."""
    folder.mkdir(exist_ok=True)
    llm = Llm(folder)
    llm.configure(api, **{HEADER: session_id})
    return llm
