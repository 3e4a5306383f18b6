#!/usr/bin/env bash
# strands-agents 1.62.0: two Agents that live at once on one session, as two workers of a server have them, number
# their messages each by what it read when it was made, and write each to "message_N.json". Turns strictly one
# after the other, without a race or an error: the second's turn replaces the first's, question and answer. Of five
# turns that were answered, the next Agent finds three. Seen on 2026-11-28 with FileSessionManager.
# So a store gives out the places of messages itself, and a session that is kept open appends to what is stored now.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet strands-agents==1.62.0
"$folder/venv/bin/python" - "$folder/sessions" <<'PYTHON'
import sys

from strands import Agent
from strands.models.model import Model
from strands.session.file_session_manager import FileSessionManager


class Echo(Model):
    """Answers with the last message's text."""

    def update_config(self, **_):
        pass

    def get_config(self):
        return {}

    def structured_output(self, *_, **__):
        raise NotImplementedError

    async def stream(self, messages, *_, **__):
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockDelta": {"delta": {"text": "answer to " + messages[-1]["content"][0]["text"]}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def agent():
    manager = FileSessionManager(session_id="s1", storage_dir=sys.argv[1])
    return Agent(agent_id="a", model=Echo(), session_manager=manager, callback_handler=None)


first, second = agent(), agent()
for worker, question in ((first, "one"), (second, "two"), (first, "three"), (second, "four"), (second, "five")):
    assert str(worker(question)).strip() == f"answer to {question}"
kept = [message["content"][0]["text"] for message in agent().messages]
print("kept:", kept)
sys.exit(kept != ["two", "answer to two", "four", "answer to four", "five", "answer to five"])
PYTHON
