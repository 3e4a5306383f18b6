#!/usr/bin/env bash
# What frameworks make of a Responses stream whose answer is two messages, as some models give one before the end and
# one at the end, or one message of two parts: "One. " and "Two.".
# agent-framework-openai 1.17.0: its stream's updates hold each text twice, in the deltas and once more, whole, from
# "response.output_text.done", meant to replace them: `update.text`, printed as the docstring of Agent.run does it,
# reads "One. One. Two.Two.". In the answer that the session keeps, the second text replaces the first: the next
# question's history has "Two." alone. With 1.16.0 each is there once.
# llama-index-llms-openai 0.8.3 has the first of two messages twice in its answer, in its memory and in the next
# question's history, though it streams it once. Seen on 2026-11-28.
# So the test of such a client has to tell more than one message, and to look at the next question.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/texts.py" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


def check(talk, **expected):
    """Fail unless talk(url) streams, and asks its second question with, what is expected."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = {}
    for output in OUTPUTS:
        streamed = asyncio.run(talk(f"http://127.0.0.1:{server.server_port}/{output}/v1"))
        contents = [item["content"] for item in ASKED[-1]["input"] if item.get("role") == "assistant"]
        texts = [text if isinstance(text, str) else "".join(each["text"] for each in text) for text in contents]
        seen[output] = (streamed, "".join(texts))
    print(sys.argv[1], seen)
    sys.exit(seen != expected)
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x PYTHONPATH=$folder "$folder/venv/bin/python" - "$@"
}

agent_framework='
import sys

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient
from texts import check


async def talk(url):
    agent = Agent(client=OpenAIChatClient(model="m", base_url=url), default_options={"store": False})
    session = agent.create_session()
    said = [[update.text async for update in agent.run("question", session=session, stream=True)] for _ in range(2)]
    return "".join(said[0])


told = ("One. Two.", "One. Two.") if "1.16.0" in sys.argv[1] else ("One. One. Two.Two.", "Two.")
check(talk, messages=told, parts=told)
'
try_with agent-framework-openai==1.16.0 agent-framework-core==1.22.0 openai==3.57.0 <<<"$agent_framework"
try_with agent-framework-openai==1.17.0 agent-framework-core==1.23.0 openai==3.57.0 <<<"$agent_framework"

try_with llama-index-llms-openai==0.8.3 llama-index-core==0.14.25 llama-index-workflows==2.26.1 openai==2.54.0 <<'PYTHON'
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.memory import Memory
from llama_index.llms.openai import OpenAIResponses
from texts import check


async def talk(url):
    memory, said = Memory.from_defaults(session_id=url), []
    model = OpenAIResponses(model="gpt-4o", api_base=url, max_retries=0)
    for question in ("one", "two"):
        run = FunctionAgent(llm=model).run(question, memory=memory)
        said.append([event.delta async for event in run.stream_events() if isinstance(event, AgentStream)])
        await run
    return "".join(said[0])


check(talk, messages=("One. Two.", "One. One. Two."), parts=("One. Two.", "One. Two."))
PYTHON
