#!/usr/bin/env bash
# What pydantic-ai makes of a background response whose stream ends in the middle without a last event, as where a proxy
# or a server closes it. It asks for the rest by "starting_after", gets it, and its stream yields the whole text once;
# yet the run's output, and the message in its history, is the rest alone: the resumed part has the same response's
# id, and replaces the first one. pydantic-ai-slim 2.68.0, openai 3.57.0. Seen on 2026-11-28.
# A connection that breaks, in place of ending, raises ModelConnectionError, and is not resumed.
# So a server ends a stream by response.completed, or by an error, and never without either.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet 'pydantic-ai-slim[openai]==2.68.0' openai==3.57.0
venv/bin/python - <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
BROKEN_AFTER = 4
asked = []


def part(text):
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response(status, output):
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "background": True,
    }  # fmt: skip


def events():
    whole = ITEM | {"content": [part("one two three")]}
    yield "response.created", {"response": response("in_progress", [])}
    yield "response.output_item.added", {"output_index": 0, "item": ITEM | {"content": []}}
    yield "response.content_part.added", AT | {"part": part("")}
    for word in ("one ", "two ", "three"):
        yield "response.output_text.delta", AT | {"delta": word, "logprobs": []}
    yield "response.output_text.done", AT | {"text": "one two three", "logprobs": []}
    yield "response.content_part.done", AT | {"part": part("one two three")}
    yield "response.output_item.done", {"output_index": 0, "item": whole}
    yield "response.completed", {"response": response("completed", [whole])}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(-1, BROKEN_AFTER)

    def do_GET(self):
        (after,) = parse_qs(urlsplit(self.path).query)["starting_after"]
        self.answer(int(after), 1000)

    def answer(self, after, last):
        asked.append((self.command, after))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for number, (kind, event) in enumerate(events()):
            if after < number <= last:
                data = json.dumps({"type": kind, "sequence_number": number} | event)
                self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())

    def log_message(self, *_):
        pass


async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    provider = OpenAIProvider(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="x")
    agent = Agent(OpenAIResponsesModel("m", provider=provider), model_settings={"openai_background": True})
    async with agent.run_stream("count") as run:
        streamed = "".join([text async for text in run.stream_text(delta=True)])
        output = await run.get_output()
        (kept,) = run.all_messages()[-1].parts
    return asked, streamed, output, kept.content


seen = asyncio.run(main())
print("requests, streamed, output, history:", *seen)
sys.exit(seen != ([("POST", -1), ("GET", BROKEN_AFTER)], "one two three", "three", "three"))
PYTHON
