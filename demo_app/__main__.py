"""Serve the demo: ``python -m demo_app``."""

import argparse
import os
from contextlib import suppress

import uvicorn

from hermes_session_mw import ConfigurationError

from .app import create_app

BANNER = """
The demo serves at {url}
Conversations are kept in {store}

Try, in a second terminal:

  curl -i {url}/v1/chat/completions \\
    -H 'Content-Type: application/json' -H 'X-Hermes-Session-Id: my-first-thread' \\
    -d '{{"messages": [{{"role": "user", "content": "My name is Ada."}}]}}'

Send it again with another text, or stop the demo (Ctrl-C), start it and then send it:
the conversation goes on. Another port: make demo PORT=8001

More to try (docs/demo.md): -H 'Idempotency-Key: 1' twice, -H 'X-Hermes-History-Source: request',
POST {url}/v1/session/rotate, HERMES_API_KEYS=one,two make demo
"""


def main() -> None:
    """Read the options, say where and what to try, and serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m demo_app", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--store",
        default=os.environ.get("HERMES_STORE", "sqlite:///hermes_demo.db"),
        help="a SQLAlchemy URL, or hermes:PATH for a Hermes Agent's state.db "
        "(default: %(default)s, or HERMES_STORE)",
    )
    parser.add_argument(
        "--compact-at",
        type=int,
        default=int(os.environ.get("HERMES_COMPACT_AT", "0")),
        help="compact a conversation that has more messages (default: never, or HERMES_COMPACT_AT)",
    )
    options = parser.parse_args()
    # From the environment alone: a command line is there for every user of the machine to read.
    api_keys = [
        key.strip() for key in os.environ.get("HERMES_API_KEYS", "").split(",") if key.strip()
    ]
    try:
        app = create_app(options.store, api_keys=api_keys, compact_at=options.compact_at)
    except ConfigurationError as exc:
        parser.error(str(exc))
    config = uvicorn.Config(app, host=options.host, port=options.port)
    listener = config.bind_socket()  # ends the program where the port is taken
    url = f"http://{options.host}:{options.port}"
    print(BANNER.format(url=url, store=options.store), flush=True)  # noqa: T201
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":  # pragma: no branch  # nobody imports it
    main()
