#!/usr/bin/env bash
# What AG-UI adapters of agent frameworks tell when a model's answer is only half: it stops at the limit of tokens
# (finish_reason "length"), ends without a finish_reason, or fails by an error in the stream. All but one tell a limit as
# a good end, RUN_FINISHED, and nothing in the events says otherwise; ag_ui_strands 1.0.2 tells RUN_ERROR. All six tell
# an end without a reason as a good one. An error is RUN_ERROR in five; agent-framework-ag-ui 1.7.0 raises and
# leaves the run without an end, and ag-ui-langgraph 0.0.47, llama-index-protocols-ag-ui 0.6.0 (by chunks, and raising
# too) and the limit of ag_ui_strands leave the message open. pydantic-ai-slim 2.68.0 and agno 3.1.10 close it.
# Seen on 2026-11-28.
# So RUN_FINISHED is no proof that an answer is whole: who stores it needs the model's own finish_reason.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/halves.py" <<'PYTHON'
import asyncio
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ag_ui.core import RunAgentInput

ENDINGS = ("whole", "limit", "silent", "error")
INPUT = {
    "threadId": "t", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {},
    "messages": [{"id": "u1", "role": "user", "content": "Hi"}],
}  # fmt: skip
RUN = RunAgentInput.model_validate(INPUT)


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        ending = self.path.split("/")[1]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.chunk({"role": "assistant", "content": "Hel"})
        if ending == "whole":
            self.chunk({"content": "lo"})
        if ending == "error":
            self.send({"error": {"message": "it broke", "type": "server_error", "param": None, "code": None}})
        if reason := {"whole": "stop", "limit": "length"}.get(ending):
            self.chunk({}, reason)
            self.wfile.write(b"data: [DONE]\n\n")

    def chunk(self, delta, reason=None):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        self.send({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})

    def send(self, data):
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())

    def log_message(self, *_):
        pass


async def told(events):
    """Return the text, whether its message is closed, and the end."""
    text, is_open, end = "", False, "no end"
    try:
        async for event in events:
            if isinstance(event, str):
                event = json.loads(event.removeprefix("data: "))
            elif not isinstance(event, dict):
                event = event.model_dump(mode="json", by_alias=True)
            kind = event["type"]
            if kind.startswith("TEXT_MESSAGE_"):
                text += event.get("delta") or ""
                is_open = kind != "TEXT_MESSAGE_END"
            elif kind.startswith("RUN_") and kind != "RUN_STARTED":
                end = kind
    except Exception:
        end += ", raises"
    return f"{text} {'open' if is_open else 'closed'} {end}"


def check(events_of, **expected):
    """Fail unless events_of(url) tell for each ending what is expected."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = {ending: f"http://127.0.0.1:{server.server_port}/{ending}/v1" for ending in ENDINGS}
    seen = {ending: asyncio.run(told(events_of(url))) for ending, url in urls.items()}
    print(sys.argv[1], seen, flush=True)
    os._exit(seen != expected)
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x AGNO_TELEMETRY=false PYTHONPATH=$folder "$folder/venv/bin/python" -W ignore - "$@" 2>errors || {
    cat errors
    return 1
  }
}

try_with 'pydantic-ai-slim[ag-ui,openai]==2.68.0' ag-ui-protocol==1.0.0 openai==3.57.0 <<'PYTHON'
from halves import RUN, check
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.ui.ag_ui import AGUIAdapter


def events(url):
    agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(base_url=url)))
    return AGUIAdapter(agent=agent, run_input=RUN).run_stream()


check(
    events, whole="Hello closed RUN_FINISHED", limit="Hel closed RUN_FINISHED", silent="Hel closed RUN_FINISHED",
    error="Hel closed RUN_ERROR",
)  # fmt: skip
PYTHON

try_with ag-ui-langgraph==0.0.47 ag-ui-protocol==1.0.0 fastapi==0.141.1 langchain==1.5.2 langgraph==1.2.24 \
  langchain-openai==1.7.4 langchain-core==1.8.3 openai==3.57.0 <<'PYTHON'
from ag_ui_langgraph import LangGraphAgent
from halves import RUN, check
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import MemorySaver


def events(url):
    model = ChatOpenAI(model="m", base_url=url, max_retries=0, streaming=True)
    return LangGraphAgent(name="a", graph=create_agent(model, [], checkpointer=MemorySaver())).run(RUN)


check(
    events, whole="Hello closed RUN_FINISHED", limit="Hel closed RUN_FINISHED", silent="Hel closed RUN_FINISHED",
    error="Hel open RUN_ERROR",
)  # fmt: skip
PYTHON

try_with agent-framework-ag-ui==1.7.0 agent-framework-core==1.23.0 agent-framework-openai==1.17.0 openai==3.57.0 \
  ag-ui-protocol==0.1.22 <<'PYTHON'
from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient
from agent_framework_ag_ui import AgentFrameworkAgent
from halves import INPUT, check
from openai import AsyncOpenAI


def events(url):
    client = OpenAIChatCompletionClient(model="m", async_client=AsyncOpenAI(base_url=url, max_retries=0))
    return AgentFrameworkAgent(agent=Agent(client=client, name="a")).run(INPUT)


check(
    events, whole="Hello closed RUN_FINISHED", limit="Hel closed RUN_FINISHED", silent="Hel closed RUN_FINISHED",
    error="Hel open no end, raises",
)  # fmt: skip
PYTHON

try_with ag-ui-strands==1.0.2 'strands-agents[openai]==1.62.0' ag-ui-protocol==1.0.0 openai==2.54.0 <<'PYTHON'
from ag_ui_strands import StrandsAgent
from halves import RUN, check
from strands import Agent
from strands.models.openai import OpenAIModel


def events(url):
    model = OpenAIModel(client_args={"base_url": url, "max_retries": 0}, model_id="m")
    return StrandsAgent(Agent(model=model, callback_handler=None), name="a").run(RUN)


check(
    events, whole="Hello closed RUN_FINISHED", limit="Hel open RUN_ERROR", silent="Hel closed RUN_FINISHED",
    error="Hel closed RUN_ERROR",
)  # fmt: skip
PYTHON

try_with llama-index-protocols-ag-ui==0.6.0 llama-index-llms-openai-like==0.8.1 llama-index-core==0.14.25 \
  fastapi==0.141.1 ag-ui-protocol==1.0.0 openai==2.54.0 <<'PYTHON'
from halves import RUN, check
from llama_index.llms.openai_like import OpenAILike
from llama_index.protocols.ag_ui.router import AGUIWorkflowRouter, get_default_workflow_factory


async def events(url):
    llm = OpenAILike(model="m", api_base=url, max_retries=0, is_chat_model=True, is_function_calling_model=True)
    router = AGUIWorkflowRouter(get_default_workflow_factory(llm=llm))
    async for event in (await router.run(RUN)).body_iterator:
        yield event


check(
    events, whole="Hello open RUN_FINISHED", limit="Hel open RUN_FINISHED", silent="Hel open RUN_FINISHED",
    error="Hel open RUN_ERROR, raises",
)  # fmt: skip
PYTHON

try_with agno==3.1.10 ag-ui-protocol==1.0.0 openai==3.57.0 fastapi==0.141.1 <<'PYTHON'
from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.os.interfaces.agui.router import run_entity
from halves import RUN, check


def events(url):
    return run_entity(Agent(model=OpenAIChat(id="m", base_url=url, max_retries=0), telemetry=False), RUN)


check(
    events, whole="Hello closed RUN_FINISHED", limit="Hel closed RUN_FINISHED", silent="Hel closed RUN_FINISHED",
    error="Hel closed RUN_ERROR",
)  # fmt: skip
PYTHON
