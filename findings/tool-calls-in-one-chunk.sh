#!/usr/bin/env bash
# A chat stream may hold several tool calls in one chunk, and text beside a call. llama-index-llms-openai 0.8.3 takes
# a chunk's first call alone: the second of two is never run, and nothing says so; where pieces of two calls take
# turns it runs neither. autogen-ext 0.7.5 loses the calls of a chunk that has text too, without a word.
# semantic-kernel 1.45.0 runs them and loses the text, in what it streams and in the next request. haystack-ai
# 3.4.1 raises on such a chunk. openai-agents 0.24.0 takes all of it. Seen on 2026-11-28.
# So a server that passes an upstream's chunks on should split them: one call, or text, in a chunk, and a call's pieces
# in a row.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/calls.py" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RAN = []  # the cities that the tool was called with


def piece(index, arguments, call_id=None):
    begin = {"id": call_id, "type": "function"} if call_id else {}
    name = {"name": "weather"} if call_id else {}
    return begin | {"index": index, "function": name | {"arguments": arguments}}


PARIS, LIMA = piece(0, '{"city":"Paris"}', "call_a"), piece(1, '{"city":"Lima"}', "call_b")
STREAMS = {
    "apart": [{"tool_calls": [PARIS]}, {"tool_calls": [LIMA]}],
    "together": [{"tool_calls": [PARIS, LIMA]}],
    "beside_text": [{"content": "I look. ", "tool_calls": [PARIS]}, {"tool_calls": [LIMA]}],
    "in_turns": [
        {"tool_calls": [calls]}
        for calls in (
            piece(0, "", "call_a"), piece(1, "", "call_b"), piece(0, '{"city":'), piece(1, '{"city":'),
            piece(0, '"Paris"}'), piece(1, '"Lima"}'),
        )
    ],
}  # fmt: skip


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        deltas, reason = STREAMS[self.path.split("/")[1]], "tool_calls"
        if asked["messages"][-1]["role"] == "tool":
            deltas, reason = [{"content": "done"}], "stop"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        told = [([(delta, None)], None) for delta in [{"role": "assistant"}, *deltas]]
        for choices, used in [*told, ([({}, reason)], None), ([], usage)]:
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": used}
            chunk["choices"] = [{"index": 0, "delta": delta, "finish_reason": why} for delta, why in choices]
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


async def weather(city: str) -> str:
    """Tell the weather."""
    RAN.append(city)
    return "sunny"


def check(ask, **expected):
    """Fail unless ask(url) gives for each stream the cities and the text that are expected."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = {}
    for stream in STREAMS:
        RAN.clear()
        try:
            text = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}/{stream}/v1"))
        except Exception as exc:
            text = type(exc).__name__
        seen[stream] = " ".join([*RAN, text])
    print(sys.argv[1], seen)
    sys.exit(seen != expected)
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x OPENAI_AGENTS_DISABLE_TRACING=1 HAYSTACK_TELEMETRY_ENABLED=False PYTHONPATH=$folder \
    "$folder/venv/bin/python" -W ignore - "$@"
}

try_with openai-agents==0.24.0 openai==3.57.0 <<'PYTHON'
from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from calls import check, weather
from openai import AsyncOpenAI


async def ask(url):
    model = OpenAIChatCompletionsModel(model="m", openai_client=AsyncOpenAI(base_url=url, max_retries=0))
    run = Runner.run_streamed(Agent(name="a", model=model, tools=[function_tool(weather)]), "question")
    events = [event.data async for event in run.stream_events() if event.type == "raw_response_event"]
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


check(
    ask,
    apart="Paris Lima done",
    together="Paris Lima done",
    beside_text="Paris Lima I look. done",
    in_turns="Paris Lima done",
)
PYTHON

try_with llama-index-llms-openai-like==0.8.1 llama-index-llms-openai==0.8.3 llama-index-core==0.14.25 \
  llama-index-workflows==2.26.1 openai==2.54.0 <<'PYTHON'
from calls import check, weather
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.llms.openai_like import OpenAILike


async def ask(url):
    model = OpenAILike(model="m", api_base=url, is_chat_model=True, is_function_calling_model=True, max_retries=0)
    run = FunctionAgent(llm=model, tools=[weather]).run("question")
    text = "".join([event.delta async for event in run.stream_events() if isinstance(event, AgentStream)])
    await run
    return text


check(ask, apart="Paris Lima done", together="Paris done", beside_text="Paris Lima I look. done", in_turns="done")
PYTHON

try_with 'autogen-ext[openai]==0.7.5' autogen-agentchat==0.7.5 openai==3.57.0 <<'PYTHON'
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from calls import check, weather

ABLE = {"vision": False, "function_calling": True, "json_output": True, "structured_output": True, "family": "unknown"}


async def ask(url):
    model = OpenAIChatCompletionClient(model="m", base_url=url, model_info=ABLE, max_retries=0)
    agent = AssistantAgent("a", model, tools=[weather], model_client_stream=True, max_tool_iterations=2)
    events = [event async for event in agent.run_stream(task="question")]
    return "".join(event.content for event in events if type(event).__name__ == "ModelClientStreamingChunkEvent")


check(
    ask, apart="Paris Lima done", together="Paris Lima done", beside_text="Lima I look. done", in_turns="Paris Lima done"
)
PYTHON

try_with semantic-kernel==1.45.0 openai==3.57.0 <<'PYTHON'
from calls import check, weather
from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function


class Plugin:
    @kernel_function
    async def weather(self, city: str) -> str:
        """Tell the weather."""
        return await weather(city)


async def ask(url):
    service = OpenAIChatCompletion(ai_model_id="m", async_client=AsyncOpenAI(base_url=url, max_retries=0))
    agent = ChatCompletionAgent(service=service, plugins=[Plugin()], name="a")
    return "".join([str(event) async for event in agent.invoke_stream("question")])


check(ask, apart="Paris Lima done", together="Paris Lima done", beside_text="Paris Lima done", in_turns="Paris Lima done")
PYTHON

try_with haystack-ai==3.4.1 openai==3.57.0 <<'PYTHON'
import asyncio

from calls import check, weather
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}


async def ask(url):
    tool = Tool("weather", "Tell the weather.", CITY, lambda city: asyncio.run(weather(city)))
    agent = Agent(chat_generator=OpenAIChatGenerator(model="m", api_base_url=url, max_retries=0), tools=[tool])
    said = []
    messages = [ChatMessage.from_user("question")]
    await asyncio.to_thread(agent.run, messages, streaming_callback=lambda chunk: said.append(chunk.content))
    return "".join(said)


check(
    ask, apart="Paris Lima done", together="Paris Lima done", beside_text="ValueError", in_turns="Paris Lima done"
)
PYTHON
