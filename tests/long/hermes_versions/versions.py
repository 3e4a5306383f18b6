"""The code of each version of Hermes Agent, in a folder of its own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hermes_session_mw.stores.hermes_state.rules import RELEASES


@dataclass(frozen=True)
class Version:
    """A version of Hermes Agent.

    Attributes:
        name: such as ``0.19.0``.
        schema: its schema version.
        code: the folder with its modules.
    """

    name: str
    schema: int
    code: Path


def installed(folder: Path) -> list[Version]:
    """Return the versions that were published, and get those that the folder lacks.

    Their own requirements are not installed: the code of the database needs the standard library.
    """
    versions = [Version(name, schema, folder / name) for name, schema in RELEASES]
    for version in versions:
        if not (version.code / "hermes_state.py").exists():
            print(f"getting Hermes Agent {version.name}", file=sys.stderr, flush=True)
            asked = [f"hermes-agent=={version.name}", "--target", str(version.code)]
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
            subprocess.run([*pip, "--quiet", "--no-compile", "--no-deps", *asked], check=True)
    return versions


def read_from(code: Path) -> Version:
    """Return a version that is not published, in a folder: for one that is to come."""
    sys.path.insert(0, str(code))
    asked = "import hermes_state_common as m; print(m.SCHEMA_VERSION)"
    command = [sys.executable, "-c", asked]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=code).stdout
    return Version(code.name, int(printed), code)
