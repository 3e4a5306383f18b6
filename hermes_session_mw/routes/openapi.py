"""The OpenAPI 3.1 description of the session routes, stored in ``openapi.json``.

The file is a whole description, for the prefix ``/sessions``; ``tests/routes/test_openapi.py``
holds it against the routes, the limits and the refusals.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

ID_FORMAT, CURSOR_FORMAT = "hermes-session-id", "hermes-session-cursor"
SEARCH_CURSOR_FORMAT = "hermes-search-cursor"
"""The ``format`` of values that clients only copy from a response."""

TAG_FORMAT = "hermes-session-tag"
"""The ``format`` of a tag: 1 to 64 characters, not all spaces, none a control character."""

_PREFIX = "/sessions"


def describe(prefix: str, server: str) -> dict[str, Any]:
    """Return the description of the routes below ``prefix``, which a client reaches at ``server``.

    It has no ``security``, because the application's owner hook authenticates clients; an
    application adds its own.
    """
    paths = {
        f"{prefix}{path.removeprefix(_PREFIX)}": operations
        for path, operations in _description()["paths"].items()
    }
    return _description() | {"servers": [{"url": server or "/"}], "paths": paths}


@cache
def _description() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("openapi.json").read_text("utf-8")
    description: dict[str, Any] = json.loads(text)
    return description
