"""What a server says about itself follows from how it is made."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import MemoryStore


def told(**options: Any) -> Any:
    """Return what a demo that is made with these options tells."""
    keys = options.pop("keys", ())
    app = create_app(options.pop("store", MemoryStore()), keys=keys, **options)
    headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    with TestClient(app) as client:
        answer = client.get("/v1/capabilities", headers=headers)
    assert answer.status_code == 200
    return answer.json()


def test_it_has_the_shape_of_hermes_agents() -> None:
    """What a client of Hermes Agent reads is where it is there."""
    answer = told()
    assert answer["object"] == "hermes.api_server.capabilities"
    assert answer["model"] == "hermes-demo"
    assert answer["auth"] == {"type": "bearer", "required": False}
    assert answer["runtime"]["tool_execution"] == "client"
    features, endpoints = answer["features"], answer["endpoints"]
    assert features["chat_completions_streaming"] is features["responses_streaming"] is True
    assert features["responses_background"] is True
    assert features["session_continuity_header"] == "X-Hermes-Session-Id"
    assert features["session_key_header"] is None
    assert "sessions" not in endpoints
    assert endpoints["chat_completions"] == {"method": "POST", "path": "/v1/chat/completions"}
    assert endpoints["session_fork"] == {"method": "POST", "path": "/v1/sessions/{id}/fork"}
    assert endpoints["get_models_model_id"] == {"method": "GET", "path": "/v1/models/{model_id}"}


def test_every_endpoint_is_named_once() -> None:
    """No two endpoints share a name, and each that is told is served."""
    endpoints = told()["endpoints"].values()
    assert len({(each["method"], each["path"]) for each in endpoints}) == len(endpoints)
    with TestClient(create_app(MemoryStore(), keys=()), raise_server_exceptions=False) as client:
        for each in endpoints:
            assert client.request(each["method"], each["path"]).status_code != 405, each


@pytest.mark.parametrize(
    ("options", "path", "value"),
    [
        ({"keys": ["k"]}, "auth.required", True),
        ({"keys": ["k"]}, "features.session_resources", True),
        ({}, "features.session_resources", False),
        ({}, "session_keys.names", None),
        ({}, "headers.session_key", None),
        ({}, "idempotency.apis", "separate"),
        ({"keys": ["k"]}, "session_keys.names", "memory_scope"),
        ({"keys": ["k"]}, "features.session_key_header", "X-Hermes-Session-Key"),
        ({"keys": ["k"]}, "endpoints.sessions", {"method": "GET", "path": "/v1/sessions"}),
        ({"keys": ["k"], "session_keys": True}, "session_keys.names", "conversation"),
        ({}, "history.without_id", "new"),
        ({"keys": ["k"], "derive_ids": True}, "history.without_id", "derived"),
        ({"origins": ["https://a.example"]}, "features.cors", True),
        ({"store": MemoryStore(max_message_bytes=77)}, "limits.max_message_bytes", 77),
        ({"max_body_bytes": 99}, "limits.max_body_bytes", 99),
        ({}, "limits.max_session_id_length", 256),
        ({}, "headers.idempotency_key", "Idempotency-Key"),
        ({}, "headers.on_disconnect", "X-Hermes-On-Disconnect"),
        ({}, "idempotency.running", "joined"),
        ({}, "answers.on_disconnect", "continue"),
        ({"on_disconnect": "stop"}, "answers.on_disconnect", "stop"),
        (
            {},
            "endpoints.get_sessions_id_answer",
            {"method": "GET", "path": "/v1/sessions/{id}/answer"},
        ),
    ],
)
def test_it_follows_from_the_options(options: dict[str, Any], path: str, value: object) -> None:
    """Limits, key semantics and the rest are those that the application was made with."""
    section, name = path.split(".")
    assert told(**options)[section][name] == value
