"""An adapter names the package that it needs, and hides no other error."""

import sys
from importlib import import_module

import pytest

from hermes_session_mw.adapters.framework_import import needing

PACKAGES = {
    "agent_framework": ("agent_framework", "agent-framework-core"),
    "claude_agent": ("claude_agent_sdk", "claude-agent-sdk"),
    "google_adk": ("google", "google-adk>=2.5"),
    "langgraph": ("langchain_core", "langgraph"),
    "llama_index": ("llama_index", "llama-index-core"),
    "openai_agents": ("agents", "openai-agents"),
    "pydantic_ai": ("pydantic", "pydantic-ai-slim>=2.66"),
}


@pytest.mark.parametrize("adapter", PACKAGES)
def test_a_missing_framework_is_named(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the framework is not installed, the ImportError says what pip is to install."""
    module, package = PACKAGES[adapter]
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    with pytest.raises(ModuleNotFoundError, match=f"pip install '{package}'") as raised:
        import_module(f"hermes_session_mw.adapters.{adapter}")
    assert (raised.value.name or "").split(".")[0] == module


def test_another_module_that_is_missing_stays_the_error() -> None:
    """A framework that lacks something itself is not taken for one that is not installed."""
    with pytest.raises(ModuleNotFoundError) as raised, needing("openai-agents", "agents"):
        import_module("a_module_of_nobody")
    assert "pip" not in str(raised.value)
