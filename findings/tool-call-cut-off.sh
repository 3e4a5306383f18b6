#!/usr/bin/env bash
# A tool call that the limit of tokens has cut off, `{"city":"Li` and then finish_reason "length", is run by three of
# five frameworks. langchain 1.5.2, where it is streamed, closes the JSON and calls the tool with "Li"; told whole, the
# same answer is not run. smolagents 1.26.0 gives the tool the JSON's text itself for its one argument, and
# llama-index-core 0.14.25 calls it with None, streamed or not. pydantic-ai-slim 2.68.0 tells the model of its error, and
# strands-agents 1.62.0 raises. Seen on 2026-11-28.
# So a server that stores such an answer should mark it as incomplete, and never end it with "tool_calls".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/cut.py" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RAN = []  # what the tool was called with
CALL = {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Li'}}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        delta, reason = {"content": None, "tool_calls": [CALL | {"index": 0}]}, "length"
        if len(asked["messages"]) > 2 or asked["messages"][-1]["role"] == "tool":
            delta, reason = {"content": "done"}, "stop"
        answer = {"id": "c", "created": 1, "model": "m"}
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        streamed = asked.get("stream")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.end_headers()
        if streamed:
            for choice in ({"delta": {"role": "assistant"} | delta}, {"delta": {}, "finish_reason": reason}):
                choices = [{"index": 0, "finish_reason": None} | choice]
                chunk = answer | {"object": "chat.completion.chunk", "choices": choices}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")
        else:
            choices = [{"index": 0, "finish_reason": reason, "message": {"role": "assistant"} | delta}]
            self.wfile.write(json.dumps(answer | {"object": "chat.completion", "choices": choices}).encode())

    def log_message(self, *_):
        pass


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: its name
    """
    RAN.append(city)
    return "sunny"


def check(ask, **expected):
    """Fail unless ask(url, streamed) calls the tool with, or raises, what is expected."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = {}
    for way in expected:
        RAN.clear()
        try:
            asyncio.run(ask(f"http://127.0.0.1:{server.server_port}/v1", way == "streamed"))
        except Exception as exc:
            RAN.append(type(exc).__name__)
        seen[way] = list(RAN)
    print(sys.argv[1], seen)
    sys.exit(seen != expected)
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x PYTHONPATH=$folder "$folder/venv/bin/python" -W ignore - "$@"
}

try_with langchain==1.5.2 langchain-openai==1.7.4 langchain-core==1.8.3 openai==3.57.0 <<'PYTHON'
from cut import check, weather
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI


async def ask(url, streamed):
    agent = create_agent(ChatOpenAI(model="m", base_url=url, max_retries=0, streaming=streamed), [weather])
    await agent.ainvoke({"messages": [("user", "question")]})


check(ask, streamed=["Li"], whole=[])
PYTHON

try_with 'smolagents[openai]==1.26.0' openai==3.57.0 <<'PYTHON'
import asyncio

from cut import check, weather
from smolagents import OpenAIServerModel, ToolCallingAgent, tool


async def ask(url, streamed):
    model = OpenAIServerModel(model_id="m", api_base=url, api_key="x", client_kwargs={"max_retries": 0})
    agent = ToolCallingAgent(
        tools=[tool(weather)], model=model, stream_outputs=streamed, max_steps=1, verbosity_level=0
    )
    await asyncio.to_thread(lambda: list(agent.run("question", stream=True)))


check(ask, streamed=['{"city":"Li'], whole=['{"city":"Li'])
PYTHON

try_with llama-index-llms-openai-like==0.8.1 llama-index-llms-openai==0.8.3 llama-index-core==0.14.25 \
  llama-index-workflows==2.26.1 openai==2.54.0 <<'PYTHON'
from cut import check, weather
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike


async def ask(url, streamed):
    model = OpenAILike(model="m", api_base=url, is_chat_model=True, is_function_calling_model=True, max_retries=0)
    await FunctionAgent(llm=model, tools=[weather], streaming=streamed).run("question")


check(ask, streamed=[None], whole=[None])
PYTHON

try_with 'pydantic-ai-slim[openai]==2.68.0' openai==3.57.0 <<'PYTHON'
from cut import check, weather
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def ask(url, streamed):
    agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(base_url=url)), tools=[weather])
    if streamed:
        async with agent.run_stream("question") as run:
            await run.get_output()
    else:
        await agent.run("question")


check(ask, streamed=[], whole=[])
PYTHON

try_with 'strands-agents[openai]==1.62.0' openai==2.54.0 <<'PYTHON'
from cut import check, weather
from strands import Agent, tool
from strands.models.openai import OpenAIModel


async def ask(url, _):
    model = OpenAIModel(client_args={"base_url": url, "max_retries": 0}, model_id="m")
    async for _ in Agent(model=model, tools=[tool(weather)], callback_handler=None).stream_async("question"):
        pass


check(ask, streamed=["MaxTokensReachedException"])
PYTHON
