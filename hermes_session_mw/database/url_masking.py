"""A store's URL without its secrets, for error messages and output.

Rules of this file: pure functions.
"""

from contextlib import suppress

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_HIDDEN = "***"


def redact_url(url: str) -> str:
    """Return the URL without its passwords; none of one that cannot be read.

    A path, as ``hermes:`` may have it before, has none.
    """
    if url.startswith("hermes:"):
        return url
    with suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        hidden = dict.fromkeys(_secret_names(parsed), _HIDDEN)
        return parsed.update_query_dict(hidden).render_as_string(hide_password=True)
    return _HIDDEN


def masked(text: str, url: str) -> str:
    """Return ``text`` without what `redact_url` hides of ``url``."""
    text = text.replace(url, redact_url(url))
    with suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        values = (parsed.query[name] for name in _secret_names(parsed))
        for secret in (parsed.password, *values):
            if secret and isinstance(secret, str):
                text = text.replace(secret, _HIDDEN)
    return text


def _secret_names(url: URL) -> list[str]:
    return [name for name in url.query if "pass" in name.lower()]
