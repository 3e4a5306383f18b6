"""Loads an application that a page of the docs shows, as it stands there."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from tests.support.server import ROOT

BLOCK = r"^```python {}\n(.*?)^```$"


def load(folder: Path, page: str, file: str) -> Any:
    """Write the page's named block into the folder, and import it as its reader would."""
    text = (ROOT / "docs" / "frameworks" / page).read_text()
    found = re.search(BLOCK.format(re.escape(file)), text, re.DOTALL | re.MULTILINE)
    assert found is not None, file
    (folder / file).write_text(found[1])
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(file.removesuffix(".py"))
