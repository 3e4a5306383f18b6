#!/usr/bin/env bash
# What frameworks make of a Responses stream that ends in the middle of an answer, as the API ends it: by the event
# "response.failed", by "error" with "response.failed" behind, or by "response.incomplete" at the limit of
# tokens. openai-agents 0.24.0 and pydantic-ai-slim 2.68.0 raise on a failure. agno 3.1.10 says of either that the run
# is completed, and keeps half of the answer as the whole; llama-index-llms-openai 0.8.3 raises nothing either,
# and its agent's answer is empty, also at the limit of tokens, after it has streamed half of the text;
# agent-framework-openai 1.17.0 takes "response.failed" alone for a good end. Seen on 2026-11-28.
# So a server tells a failure by both events, "error" first, and what such a client stores is no proof that
# the answer was whole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/endings.py" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = {"code": "server_error", "message": "it broke"}


def response(status, output, **more):
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    } | more  # fmt: skip


def events(ending):
    part = {"type": "output_text", "text": "half", "annotations": [], "logprobs": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    yield "response.created", {"response": response("in_progress", [])}
    yield "response.output_item.added", {"output_index": 0, "item": item}
    yield "response.content_part.added", at | {"part": part | {"text": ""}}
    yield "response.output_text.delta", at | {"delta": "half", "logprobs": []}
    output = [item | {"status": "incomplete", "content": [part]}]
    if ending == "incomplete":
        yield "response.output_text.done", at | {"text": "half", "logprobs": []}
        yield "response.content_part.done", at | {"part": part}
        yield "response.output_item.done", {"output_index": 0, "item": output[0]}
        details = {"reason": "max_output_tokens"}
        yield "response.incomplete", {"response": response("incomplete", output, incomplete_details=details)}
        return
    if ending == "error":
        yield "error", ERROR | {"param": None}
    yield "response.failed", {"response": response("failed", output, error=ERROR)}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for number, (name, event) in enumerate(events(self.path.split("/")[1])):
            data = json.dumps({"type": name, "sequence_number": number} | event)
            self.wfile.write(f"event: {name}\ndata: {data}\n\n".encode())

    def log_message(self, *_):
        pass


def check(ask, **expected):
    """Fail unless ask(url) gives or raises for each ending what is expected."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = {}
    for ending in expected:
        try:
            seen[ending] = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}/{ending}/v1"))
        except Exception as exc:
            seen[ending] = type(exc).__name__
    print(sys.argv[1:], seen)
    sys.exit(seen != expected)
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x OPENAI_AGENTS_DISABLE_TRACING=1 PYTHONPATH=$folder "$folder/venv/bin/python" - "$@"
}

try_with openai-agents==0.24.0 openai==3.57.0 <<'PYTHON'
from agents import Agent, OpenAIResponsesModel, Runner
from endings import check
from openai import AsyncOpenAI


async def ask(url):
    client = AsyncOpenAI(base_url=url, max_retries=0)
    run = Runner.run_streamed(Agent(name="a", model=OpenAIResponsesModel(model="m", openai_client=client)), "question")
    async for _ in run.stream_events():
        pass
    return run.final_output


check(ask, failed="ModelBehaviorError", error="ModelBehaviorError", incomplete="ModelBehaviorError")
PYTHON

try_with 'pydantic-ai-slim[openai]==2.68.0' openai==3.57.0 <<'PYTHON'
from endings import check
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


async def ask(url):
    agent = Agent(OpenAIResponsesModel("m", provider=OpenAIProvider(base_url=url)))
    async with agent.run_stream("question") as run:
        return await run.get_output()


check(ask, failed="ModelServerError", error="ModelServerError", incomplete="half")
PYTHON

try_with agno==3.1.10 openai==3.57.0 <<'PYTHON'
from agno.agent import Agent
from agno.models.openai import OpenAIResponses
from endings import check


async def ask(url):
    agent = Agent(model=OpenAIResponses(id="m", base_url=url, max_retries=0), telemetry=False)
    async for event in agent.arun("question", stream=True, yield_run_output=True):
        last = event
    return last.status.value, last.content


check(ask, failed=("COMPLETED", "half"), error=("COMPLETED", "half"), incomplete=("COMPLETED", "half"))
PYTHON

try_with agent-framework-openai==1.17.0 agent-framework-core==1.23.0 openai==3.57.0 <<'PYTHON'
from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient
from endings import check


async def ask(url):
    stream = Agent(client=OpenAIChatClient(model="m", base_url=url)).run("question", stream=True)
    async for _ in stream:
        pass
    return (await stream.get_final_response()).text


check(ask, failed="half", error="ChatClientException", incomplete="half")
PYTHON

try_with llama-index-llms-openai==0.8.3 llama-index-core==0.14.25 llama-index-workflows==2.26.1 openai==2.54.0 <<'PYTHON'
from endings import check
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.llms.openai import OpenAIResponses


async def ask(url):
    run = FunctionAgent(llm=OpenAIResponses(model="gpt-4o", api_base=url, max_retries=0)).run("question")
    streamed = [event.delta async for event in run.stream_events() if isinstance(event, AgentStream)]
    return "".join(streamed), str(await run)


check(ask, failed=("half", ""), error=("half", ""), incomplete=("half", ""))
PYTHON
