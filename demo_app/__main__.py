"""Serve the demo: ``python -m demo_app``."""

import argparse
import os
import socket
import sys
from contextlib import suppress
from typing import get_args

import uvicorn

from demo_app.app import MAX_BODY_BYTES, create_app
from demo_app.logs import log_config
from demo_app.model import EchoModel, Model
from demo_app.upstream import TIMEOUT, UpstreamModel
from demo_app.upstream_check import problem_of
from demo_app.web import parse_origins
from hermes_session_mw import ConfigurationError
from hermes_session_mw.messages import MAX_MESSAGE_BYTES
from hermes_session_mw.session.answer import OnDisconnect

BANNER = """
The demo serves at {url}
Conversations are kept in {store}
Answers come from {model}

Open {url} in a browser, or try, in a second terminal:

  curl -i {url}/v1/chat/completions \\
    -H 'Content-Type: application/json' -H 'X-Hermes-Session-Id: my-first-chat' \\
    -d '{{"messages": [{{"role": "user", "content": "My name is Ada."}}]}}'

Send it again with another text, or stop the demo (Ctrl-C), start it and then send it:
the conversation goes on. Then try, with the same header:

  a retry            -H 'Idempotency-Key: 1', twice: the same answer, stored once
  edit, regenerate   -H 'X-Hermes-History-Source: request', and the history in the body
  Responses          {url}/v1/responses with -d '{{"input": "And now?"}}',
                     then {url}/v1/responses/ID, or "previous_response_id" in the next body
  another id         POST {url}/v1/session/rotate, or /renew for a new conversation
  a summary          make demo COMPACT_AT=20: older messages become one
  a real model       make demo UPSTREAM=http://127.0.0.1:11434/v1: any server in the shape of
                     OpenAI's API, with its key, if it wants one, in HERMES_UPSTREAM_KEY
  API keys           HERMES_API_KEYS=ada-key,bob-key make demo; each key sees its own
                     conversations, with -H 'Authorization: Bearer ada-key'

  other pages        make demo CORS_ORIGINS=http://127.0.0.1:9000: that origin's pages may ask too
  Hermes' own        make demo STORE=hermes:$HOME/.hermes/state.db

docs/demo.md has all of it as lines to paste. Another port: make demo PORT=8001
"""


def _model(options: argparse.Namespace) -> Model:
    if not options.upstream:
        return EchoModel(options.pace)
    return UpstreamModel(
        options.upstream,
        key=_upstream_key(),
        model=options.upstream_model or None,
        timeout=options.upstream_timeout,
        session_header=options.upstream_session_header or None,
    )


def _upstream_key() -> str:
    return os.environ.get("HERMES_UPSTREAM_KEY", "").strip()


def main() -> None:
    """Read the options, print what to try, and serve until stopped."""
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
        metavar="N",
        default=os.environ.get("HERMES_COMPACT_AT", "0"),
        help="summarise conversations of more than N messages (default: never, or "
        "HERMES_COMPACT_AT)",
    )
    parser.add_argument(
        "--pace",
        type=float,
        metavar="SECONDS",
        default=0.0,
        help="how long the built-in model takes for a word (default: no time)",
    )
    parser.add_argument(
        "--upstream",
        metavar="URL",
        default=os.environ.get("HERMES_UPSTREAM"),
        help="have an OpenAI-compatible server answer, as at http://127.0.0.1:11434/v1; its API "
        "key is HERMES_UPSTREAM_KEY (default: the built-in model, or HERMES_UPSTREAM)",
    )
    parser.add_argument(
        "--upstream-model",
        metavar="NAME",
        default=os.environ.get("HERMES_UPSTREAM_MODEL"),
        help="which model to ask where a request names none (default: the first that is listed, "
        "or HERMES_UPSTREAM_MODEL)",
    )
    parser.add_argument(
        "--upstream-timeout",
        type=float,
        metavar="SECONDS",
        default=TIMEOUT,
        help="how long the upstream may take to be reached, and be silent (default: %(default)s)",
    )
    parser.add_argument(
        "--upstream-session-header",
        metavar="NAME",
        default=os.environ.get("HERMES_UPSTREAM_SESSION_HEADER"),
        help="send the session's id to the upstream in this header; with the id it can read the "
        "conversation (default: none, or HERMES_UPSTREAM_SESSION_HEADER)",
    )
    parser.add_argument(
        "--head-after",
        type=float,
        metavar="SECONDS",
        default=2.0,
        help="how long a stream waits for the model's first piece, before it begins without; "
        "until then a failure is a status code (default: %(default)s)",
    )
    parser.add_argument(
        "--on-disconnect",
        choices=get_args(OnDisconnect),
        default=os.environ.get("HERMES_ON_DISCONNECT", "continue"),
        help="what becomes of an answer whose client leaves and does not say so itself, by "
        "X-Hermes-On-Disconnect (default: %(default)s, or HERMES_ON_DISCONNECT)",
    )
    parser.add_argument(
        "--max-message-bytes",
        type=int,
        metavar="N",
        default=os.environ.get("HERMES_MAX_MESSAGE_BYTES", MAX_MESSAGE_BYTES),
        help="how large a message may be as JSON; a photo of 5 MB takes 7000000 (default: "
        "%(default)s, or HERMES_MAX_MESSAGE_BYTES)",
    )
    parser.add_argument(
        "--max-body-bytes",
        type=int,
        metavar="N",
        default=MAX_BODY_BYTES,
        help="how large the body of a request may be (default: %(default)s)",
    )
    parser.add_argument(
        "--cors-origins",
        metavar="ORIGINS",
        default=os.environ.get("HERMES_CORS_ORIGINS", ""),
        help="origins whose pages may use the API in a browser, with commas between, or * for all "
        "(default: none, or HERMES_CORS_ORIGINS)",
    )
    parser.add_argument(
        "--search",
        action="store_true",
        default=bool(os.environ.get("HERMES_SEARCH")),
        help="find messages by their words, at /v1/sessions/search and on the page; it needs API "
        "keys (default: only if HERMES_SEARCH is set)",
    )
    parser.add_argument(
        "--session-keys",
        action="store_true",
        default=bool(os.environ.get("HERMES_SESSION_KEYS")),
        help="have X-Hermes-Session-Key name a conversation, and not a memory scope as in Hermes "
        "Agent (default: only if HERMES_SESSION_KEYS is set)",
    )
    parser.add_argument(
        "--derive-ids",
        action="store_true",
        default=bool(os.environ.get("HERMES_DERIVE_IDS")),
        help="have one session for a client that sends its whole conversation and no id; it needs "
        "API keys (default: only if HERMES_DERIVE_IDS is set)",
    )
    options = parser.parse_args()
    try:
        app = create_app(
            options.store,
            compact_at=options.compact_at,
            model=_model(options),
            origins=parse_origins(options.cors_origins),
            head_after=options.head_after,
            on_disconnect=options.on_disconnect,
            max_message_bytes=options.max_message_bytes,
            max_body_bytes=options.max_body_bytes,
            session_keys=options.session_keys,
            derive_ids=options.derive_ids,
            search=options.search,
        )
    except ConfigurationError as exc:
        parser.error(str(exc))
    config = uvicorn.Config(app, host=options.host, port=options.port, log_config=log_config())
    url = f"http://{options.host}:{options.port}"
    try:
        listener = listen(config)
    except SystemExit:  # uvicorn has logged the reason
        other = f"for another port: make demo PORT={options.port + 1}"
        print(f"The demo cannot serve at {url}; {other}", file=sys.stderr)  # noqa: T201
        raise
    answers = options.upstream or "the built-in model, which needs no network"
    print(BANNER.format(url=url, store=options.store, model=answers), flush=True)  # noqa: T201
    if options.upstream and (problem := problem_of(options.upstream, _upstream_key())):
        print(f"The upstream: {problem}", file=sys.stderr, flush=True)  # noqa: T201
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def listen(config: uvicorn.Config) -> socket.socket:
    """Return the bound socket, whose connections send each piece at once.

    uvicorn's has no protocol, and asyncio leaves such ones their delay: each response on a
    connection that is kept would be 40 ms late (``findings/uvicorn-workers-delayed.sh``).
    """
    listener = config.bind_socket()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":  # pragma: no branch  # nobody imports it
    main()
