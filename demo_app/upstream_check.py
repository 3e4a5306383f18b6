"""A look at the upstream as the demo starts: what is wrong there is said before anybody asks."""

import httpx2

from demo_app.upstream_errors import is_no_api, parsed

TIMEOUT = 3.0
"""Seconds for each request; the demo starts in any case."""


def problem_of(url: str, key: str = "") -> str | None:
    """Return what is wrong with an upstream, and what to do about it; None for nothing.

    Its models are listed, which asks no model. The usual mistake is an address without ``/v1``.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx2.Client(timeout=TIMEOUT, headers=headers) as client:
        try:
            response = client.get(f"{url.rstrip('/')}/models")
        except httpx2.ConnectError:
            return f"Nothing listens at {url}: start that server, or give another --upstream."
        except httpx2.HTTPError as exc:
            return f"{url} does not answer ({type(exc).__name__}): see whether that server works."
        return None if _lists_models(response) else _advice(client, url, response)


def _advice(client: httpx2.Client, url: str, response: httpx2.Response) -> str:
    if response.status_code in (401, 403):
        return f"{url} does not accept the API key: set HERMES_UPSTREAM_KEY."
    suggested = f"{url.rstrip('/')}/v1"
    if _has_models(client, suggested):
        return f"{url} has no API, but {suggested} has: give --upstream {suggested}"
    if response.is_success or is_no_api(response.status_code, parsed(response.content)):
        return f"{url} lists no models: the address of an API like OpenAI's mostly ends in /v1."
    return f"{url} answers {response.status_code} where its models are listed."


def _lists_models(response: httpx2.Response) -> bool:
    """Return whether a response is a list of models."""
    body = parsed(response.content) if response.is_success else None
    return isinstance(body, dict) and isinstance(body.get("data"), list)


def _has_models(client: httpx2.Client, url: str) -> bool:
    try:
        return _lists_models(client.get(f"{url}/models"))
    except httpx2.HTTPError:
        return False
