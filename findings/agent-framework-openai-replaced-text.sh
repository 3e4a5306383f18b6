#!/usr/bin/env bash
# agent-framework-openai 1.17.0, Responses: a stream's updates hold each text twice, once in its deltas and
# once more, whole, from "response.output_text.done", meant to replace them. What an application prints or
# sends on as `update.text`, as the docstring of Agent.run does, reads "One. One. Two.Two.". In the whole answer that
# the session keeps, the second part or message replaces the first: "Two." is left of "One. Two.", and the
# next question's history has no "One. ". With 1.16.0 each is there once. Seen on 2026-11-28.
# So a relay takes the texts from one kind of event, and the test of a client tells more than one part.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 1.16.0 1.17.0; do
  core=1.22.0
  if [ $version = 1.17.0 ]; then core=1.23.0; fi
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/python" -m pip --disable-pip-version-check install --quiet "agent-framework-openai==$version" \
    "agent-framework-core==$core" openai==3.57.0
  "$folder/$version/bin/python" - "$version" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient

ASKED = []


def part(text):
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message(item_id, *texts):
    content = [part(text) for text in texts]
    return {"type": "message", "id": item_id, "role": "assistant", "status": "completed", "content": content}


def response(status, output):
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def events(output):
    yield "response.created", {"response": response("in_progress", [])}
    for number, item in enumerate(output):
        begun = item | {"status": "in_progress", "content": []}
        yield "response.output_item.added", {"output_index": number, "item": begun}
        for index, whole in enumerate(item["content"]):
            at = {"item_id": item["id"], "output_index": number, "content_index": index}
            yield "response.content_part.added", at | {"part": part("")}
            for delta in (whole["text"][:2], whole["text"][2:]):
                yield "response.output_text.delta", at | {"delta": delta, "logprobs": []}
            yield "response.output_text.done", at | {"text": whole["text"], "logprobs": []}
            yield "response.content_part.done", at | {"part": whole}
        yield "response.output_item.done", {"output_index": number, "item": item}
    yield "response.completed", {"response": response("completed", output)}


OUTPUTS = {
    "messages": [message("msg_1", "One. "), message("msg_2", "Two.")],
    "parts": [message("msg_1", "One. ", "Two.")],
}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        ASKED.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for number, (name, event) in enumerate(events(OUTPUTS[self.path.split("/")[1]])):
            data = json.dumps({"type": name, "sequence_number": number} | event)
            self.wfile.write(f"event: {name}\ndata: {data}\n\n".encode())

    def log_message(self, *_):
        pass


async def talk(url):
    """Return what two streams' updates add up to, and the history that the second question is asked with."""
    client = OpenAIChatClient(model="m", api_key="x", base_url=url)
    agent = Agent(client=client, default_options={"store": False})
    session = agent.create_session()
    said = [[update.text async for update in agent.run("question", session=session, stream=True)] for _ in range(2)]
    history = [item["content"] for item in ASKED[-1]["input"] if item.get("role") == "assistant"]
    return "".join(said[0]), "".join(content["text"] for contents in history for content in contents)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {of: asyncio.run(talk(f"http://127.0.0.1:{server.server_port}/{of}/v1")) for of in OUTPUTS}
print("agent-framework-openai", sys.argv[1], seen)
expected = {
    "1.16.0": ("One. Two.", "One. Two."),
    "1.17.0": ("One. One. Two.Two.", "Two."),
}[sys.argv[1]]
sys.exit(any(outcome != expected for outcome in seen.values()))
PYTHON
done
