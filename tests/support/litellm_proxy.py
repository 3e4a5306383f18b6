"""LiteLLM's proxy as a process: an OpenAI-compatible server that nobody here wrote."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.requirements import needs
from tests.support.server import ROOT, free_port, serving

KEY = "sk-master"
INSTALLED = ROOT / ".litellm" / "bin" / "litellm"
ANSWER = "Hello from LiteLLM, which forgets everything."


def _model(name: str, **options: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": "openai/x", "api_key": "x", **options}}


def _config(behind: str) -> dict[str, Any]:
    """Return a configuration of mock answers; the model ``behind`` is asked at that URL."""
    return {
        "model_list": [
            _model("mock", mock_response=ANSWER),
            _model("limited", mock_response="litellm.RateLimitError"),
            _model("too-long", mock_response="litellm.ContextWindowExceededError"),
            _model("down", mock_response="litellm.InternalServerError"),
            _model("late", mock_timeout=True, timeout=0.01, mock_response=ANSWER),
            _model("behind", api_base=behind),
        ],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": KEY},
    }


def config_before(api: str) -> dict[str, Any]:
    """Return a configuration that asks at that URL, with the headers that clients send."""
    return {
        "model_list": [_model("scripted", api_base=api, api_key="unused")],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {
            "forward_client_headers_to_llm_api": True,
            "dangerously_permit_weak_or_unset_master_key": True,
        },
    }


@contextmanager
def litellm_proxy(
    folder: Path, behind: str, config_for: Callable[[str], dict[str, Any]] = _config
) -> Iterator[str]:
    """Serve until the block ends; yield the URL that clients of OpenAI's API are given."""
    needs(None if INSTALLED.exists() else "LiteLLM is not installed: make .litellm/.installed")
    config, port = folder / "config.yaml", free_port()
    config.write_text(json.dumps(config_for(behind)))  # which is YAML too
    command = [str(INSTALLED), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched
        "LITELLM_TELEMETRY": "False",
        "NO_DOCS": "True",
        "PYTHONPATH": "",
    }
    with serving(command, port, folder, ready="/health/liveliness", **quiet):
        yield f"http://127.0.0.1:{port}/v1"
