"""The demo's logging: a fingerprint of each request's session, and no id."""

import copy
from typing import Any

import uvicorn.config

from demo_app.app import CONVERSATIONS, SESSIONS
from demo_app.responses import RESPONSES


def log_config() -> dict[str, Any]:
    """Return uvicorn's own configuration, with the session's fingerprint in the access log.

    What the demo says itself, of its upstream, goes where uvicorn's own messages go.
    """
    config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    paths = [SESSIONS, RESPONSES, CONVERSATIONS, f"{CONVERSATIONS}/{{id}}/items"]
    ids = {"paths": paths, "parameters": ["after", "cursor"]}
    config["filters"] = {"session": {"()": "hermes_session_mw.SessionIdFilter", **ids}}
    config["handlers"]["access"]["filters"] = ["session"]
    config["loggers"]["demo_app"] = {"handlers": ["default"], "level": "INFO"}
    config["formatters"]["access"]["fmt"] += " [%(hermes_session)s]"
    return config
