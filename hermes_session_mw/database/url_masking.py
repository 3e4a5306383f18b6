"""Database URLs without their passwords, for error messages and output. Pure functions."""

from contextlib import suppress

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_HIDDEN = "***"


def redact_url(url: str) -> str:
    """Return the URL with its passwords masked; one that cannot be parsed is masked as a whole."""
    if url.startswith("hermes:"):  # a path follows
        return url
    with suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        hidden = dict.fromkeys(_secret_names(parsed), _HIDDEN)
        return parsed.update_query_dict(hidden).render_as_string(hide_password=True)
    return _HIDDEN


def masked(text: str, url: str) -> str:
    """Return ``text`` with what `redact_url` masks in ``url`` masked as well."""
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
