"""Loads what a page of the docs shows, as it stands there."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from tests.support.server import ROOT

BLOCK = r"^```python{}\n(.*?)^```$"


def load(folder: Path, page: str, file: str) -> Any:
    """Write the page's named block into the folder, and import it as its reader would."""
    (code,) = blocks(page, f" {file}")
    (folder / file).write_text(code)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(file.removesuffix(".py"))


def define(page: str, name: str) -> Any:
    """Run the page's block that defines this class, and return the class."""
    (code,) = (each for each in blocks(page) if f"\nclass {name}:" in each)
    namespace: dict[str, Any] = {}
    exec(compile(code, page, "exec"), namespace)
    return namespace[name]


def blocks(page: str, named: str = "") -> list[str]:
    """Return the page's blocks of Python that have this name, or none."""
    text = (ROOT / "docs" / "frameworks" / page).read_text()
    return re.findall(BLOCK.format(re.escape(named)), text, re.DOTALL | re.MULTILINE)
