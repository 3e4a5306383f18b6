#!/usr/bin/env bash
# What frameworks make of an assistant's `refusal` in a chat answer, which has no `content` and ends with "stop".
# haystack-ai 3.4.1's Agent takes it for no answer at all and asks again until `max_agent_steps`: 100 requests, all
# paid, for one question, streamed or not, and then an empty answer without an error. langchain-openai 1.7.4 has the
# refusal in `additional_kwargs` of a whole answer, and nowhere in a streamed one. strands-agents 1.62.0 ends
# with an empty text and "end_turn". pydantic-ai-slim 2.68.0 raises, with the refusal's text. Seen on 2026-11-28.
# So a server whose clients are not known may have to say a refusal in `content` too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/refusal.py" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ASKED = []
TOLD = {"role": "assistant", "content": None, "refusal": "I cannot."}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        ASKED.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        answer = {"id": "c", "created": 1, "model": "m"}
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        streamed = ASKED[-1].get("stream")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.end_headers()
        if streamed:
            for choice in ({"delta": TOLD, "finish_reason": None}, {"delta": {}, "finish_reason": "stop"}):
                chunk = answer | {"object": "chat.completion.chunk", "choices": [{"index": 0} | choice]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")
        else:
            choices = [{"index": 0, "message": TOLD, "finish_reason": "stop"}]
            self.wfile.write(json.dumps(answer | {"object": "chat.completion", "choices": choices}).encode())

    def log_message(self, *_):
        pass


def check(ask, **expected):
    """Fail unless ask(url, streamed) gives or raises what is expected, after so many requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = {}
    for way in expected:
        ASKED.clear()
        try:
            told = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}/v1", way == "streamed"))
        except Exception as exc:
            told = type(exc).__name__ + (" I cannot." if "I cannot." in str(exc) else "")
        seen[way] = (told, len(ASKED))
    print(sys.argv[1], seen)
    sys.exit(seen != expected)
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x HAYSTACK_TELEMETRY_ENABLED=False PYTHONPATH=$folder "$folder/venv/bin/python" -W ignore - "$@"
}

try_with haystack-ai==3.4.1 openai==3.57.0 <<'PYTHON'
import asyncio

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from refusal import check

NOW = Tool("now", "Tell the time.", {"type": "object", "properties": {}}, lambda: "noon")


async def ask(url, streamed):
    agent = Agent(chat_generator=OpenAIChatGenerator(model="m", api_base_url=url, max_retries=0), tools=[NOW])
    callback = (lambda chunk: None) if streamed else None
    run = await asyncio.to_thread(agent.run, [ChatMessage.from_user("question")], streaming_callback=callback)
    return run["last_message"].text


check(ask, streamed=(None, 100), whole=(None, 100))
PYTHON

try_with langchain-openai==1.7.4 langchain-core==1.8.3 openai==3.57.0 <<'PYTHON'
from langchain_openai import ChatOpenAI
from refusal import check


async def ask(url, streamed):
    model = ChatOpenAI(model="m", base_url=url, max_retries=0, streaming=streamed)
    message = await model.ainvoke("question")
    return "I cannot." in repr(message), message.content, message.response_metadata["finish_reason"]


check(ask, streamed=((False, "", "stop"), 1), whole=((True, "", "stop"), 1))
PYTHON

try_with 'strands-agents[openai]==1.62.0' openai==2.54.0 <<'PYTHON'
from refusal import check
from strands import Agent
from strands.models.openai import OpenAIModel


async def ask(url, _):
    model = OpenAIModel(client_args={"base_url": url, "max_retries": 0}, model_id="m")
    result = await Agent(model=model, callback_handler=None).invoke_async("question")
    return str(result), result.stop_reason


check(ask, streamed=(("", "end_turn"), 1))
PYTHON

try_with 'pydantic-ai-slim[openai]==2.68.0' openai==3.57.0 <<'PYTHON'
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from refusal import check


async def ask(url, streamed):
    agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(base_url=url)))
    if not streamed:
        return (await agent.run("question")).output
    async with agent.run_stream("question") as run:
        return await run.get_output()


check(ask, streamed=("ContentFilterError I cannot.", 1), whole=("ContentFilterError I cannot.", 1))
PYTHON
