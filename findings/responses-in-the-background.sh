#!/usr/bin/env bash
# What frameworks make of a response that "background": true leaves unfinished, and that is polled. openai-agents 0.24.0
# and langchain-openai 1.7.4 pass the field on, take the response that is still queued for the answer, and give the empty text,
# without an error; streamed, they are given the whole answer. agno 3.1.10, agent-framework-openai 1.17.0 and
# pydantic-ai-slim 2.68.0 poll it. Then agent-framework gives the half of an answer that has failed, or was cancelled, as
# the answer, without an error and without a finish reason, and pydantic-ai that of a cancelled one; agno says that
# the run has failed. Seen on 2026-11-28.
# So a server says "failed", with an error, of an answer that broke off, and not "incomplete", which all three take for
# an answer at its limit of tokens; and what an agent says in the background is best streamed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/polled.py" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PART = {"type": "output_text", "text": "half", "annotations": [], "logprobs": []}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "incomplete", "content": [PART]}
MORE = {
    "failed": {"error": {"code": "server_error", "message": "it broke"}},
    "cancelled": {},
    "incomplete": {"incomplete_details": {"reason": "max_output_tokens"}},
}
requests = []


def response(status, output, **more):
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "background": True,
    } | more  # fmt: skip


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(response("queued", []))

    def do_GET(self):
        status = self.path.split("/")[1]
        is_ended = requests.count("GET") >= 1
        self.answer(response(status, [ITEM], **MORE[status]) if is_ended else response("in_progress", []))

    def answer(self, body):
        requests.append(self.command)
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def check(ask, **expected):
    """Fail unless ask(url) gives or raises for each end what is expected, after so many requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = {}
    for status in expected:
        requests.clear()
        try:
            outcome = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}/{status}/v1"))
        except Exception as exc:
            outcome = type(exc).__name__
        seen[status] = (outcome, requests.count("GET"))
    print(sys.argv[1:], seen)
    sys.exit(seen != expected)
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x OPENAI_AGENTS_DISABLE_TRACING=1 PYTHONPATH=$folder "$folder/venv/bin/python" - "$@"
}

try_with openai-agents==0.24.0 openai==3.57.0 <<'PYTHON'
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner
from openai import AsyncOpenAI
from polled import check


async def ask(url):
    model = OpenAIResponsesModel(model="m", openai_client=AsyncOpenAI(base_url=url))
    settings = ModelSettings(extra_args={"background": True})
    return (await Runner.run(Agent(name="a", model=model, model_settings=settings), "question")).final_output


check(ask, failed=("", 0))
PYTHON

try_with langchain-openai==1.7.4 openai==3.57.0 <<'PYTHON'
from langchain_openai import ChatOpenAI
from polled import check


async def ask(url):
    model = ChatOpenAI(model="m", base_url=url, use_responses_api=True)
    answer = await model.ainvoke("question", background=True)
    return answer.text, answer.response_metadata["status"]


check(ask, failed=(("", "queued"), 0))
PYTHON

try_with agno==3.1.10 openai==3.57.0 <<'PYTHON'
from agno.agent import Agent
from agno.models.openai import OpenAIResponses
from polled import check


async def ask(url):
    model = OpenAIResponses(id="m", base_url=url, background=True, background_poll_interval=0.1)
    run = await Agent(model=model, telemetry=False).arun("question")
    return run.status.value, run.content


BROKEN = "Background response resp_1 was cancelled"
check(ask, failed=(("ERROR", "it broke"), 2), cancelled=(("ERROR", BROKEN), 2), incomplete=(("COMPLETED", "half"), 2))
PYTHON

try_with agent-framework-openai==1.17.0 agent-framework-core==1.23.0 openai==3.57.0 <<'PYTHON'
from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient
from polled import check


async def ask(url):
    agent = Agent(client=OpenAIChatClient(model="m", base_url=url))
    session, options = agent.create_session(), {"background": True}
    run = await agent.run("question", session=session, options=options)
    while run.continuation_token is not None:
        run = await agent.run(session=session, options={"continuation_token": run.continuation_token})
    return run.text, run.finish_reason


check(ask, failed=(("half", None), 2), cancelled=(("half", None), 2), incomplete=(("half", "length"), 2))
PYTHON

try_with 'pydantic-ai-slim[openai]==2.68.0' openai==3.57.0 <<'PYTHON'
from polled import check
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


async def ask(url):
    model = OpenAIResponsesModel("m", provider=OpenAIProvider(base_url=url))
    return (await Agent(model, model_settings={"openai_background": True}).run("question")).output


check(ask, failed=("ModelServerError", 2), cancelled=("half", 2), incomplete=("half", 2))
PYTHON
