"""The ``llm`` command against the demo: the header stands in its configuration."""

from pathlib import Path

from tests.demo.clients.demos import Demo
from tests.demo.clients.llm import llm_of


def test_prompts_go_on_by_the_header_alone(served: Demo, session_id: str, tmp_path: Path) -> None:
    """Whole and streamed, each new prompt finds what was said before, once."""
    llm = llm_of(tmp_path, served.api, session_id)
    assert "first message" in llm.says("-m", "demo", "--no-stream", "My name is Ada.")
    again = llm.says("-m", "demo", "Who am I?")
    assert again.endswith("I remember 1 earlier message; the first was: My name is Ada.")
    # With -c it sends its own log of the conversation as well, of which the last message is new.
    assert "I remember 2 earlier messages" in llm.says("-c", "And now?")
    assert [m["content"] for m in served.stored(session_id)][::2] == [
        "My name is Ada.",
        "Who am I?",
        "And now?",
    ]


def test_errors_are_printed(keyed: Demo, session_id: str, tmp_path: Path) -> None:
    """A refusal ends the command with what the server says, and no traceback."""
    llm = llm_of(tmp_path, keyed.api, session_id)
    refused = llm.run("-m", "demo", "--key", "wrong", "Hi")
    assert refused.returncode == 1
    assert "There is no such API key" in refused.stderr
    malformed = llm_of(tmp_path, keyed.api, "a b").run("-m", "demo", "Hi")
    assert malformed.returncode == 1
    assert "session id" in malformed.stderr
    for told in (refused, malformed):
        assert told.stderr.startswith("Error: ")
        assert "Traceback" not in told.stderr
