"""Reads a stream by httpx2: the version and the id in the first line, then the body.

``python -m tests.integration.http2.clients.httpx2_client URL ID CERTIFICATE``
"""

import ssl
import sys

import httpx2

if __name__ == "__main__":
    url, session_id, certificate = sys.argv[1:]
    context = ssl.create_default_context(cafile=certificate)
    headers = {"X-Hermes-Session-Id": session_id}
    with (
        httpx2.Client(http1=False, http2=True, verify=context, timeout=60) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        told = response.headers.get_list("X-Hermes-Session-Id")
        print(response.http_version, *told, flush=True)
        for piece in response.iter_text():
            print(piece, end="", flush=True)
