#!/usr/bin/env bash
# A server that cuts its text by UTF-16 may send a character in two chunks, "\ud83d" and "\ude00", each of them
# valid JSON. In Python they stay two halves: the answer that a user of langchain 1.5.2 gets in the turn still has both.
# langgraph-checkpoint-sqlite 3.1.2 then stores each as "?" without an error, its serializer being that of all of
# LangGraph's checkpointers, and the next question is asked with "a ?? b". The session of openai-agents 0.24.0,
# which is JSON in ASCII, gives the one character back. Seen on 2026-11-28.
# So a relay joins halves across chunks before it sends or stores them, and a store refuses or escapes a lone half.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >"$folder/halves.py" <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ASKED = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        ASKED.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for text in ("a \ud83d", "\ude00 b", None):
            delta = {"role": "assistant", "content": text} if text else {}
            choice = {"index": 0, "delta": delta, "finish_reason": None if text else "stop"}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


def check(talk, answer, history):
    """Fail unless talk(url) gives that answer, and asks its second question with that history."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = asyncio.run(talk(f"http://127.0.0.1:{server.server_port}/v1"))
    asked = [message["content"] for message in ASKED[1]["messages"] if message["role"] == "assistant"]
    print(sys.argv[1], ascii(told), ascii(asked))
    sys.exit((told, asked) != (answer, [history]))
PYTHON

try_with() { # package... <<program
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
  OPENAI_API_KEY=x OPENAI_AGENTS_DISABLE_TRACING=1 PYTHONPATH=$folder "$folder/venv/bin/python" - "$@"
}

try_with langgraph-checkpoint-sqlite==3.1.2 langgraph-checkpoint==4.3.2 langgraph==1.2.24 langchain==1.5.2 \
  langchain-openai==1.7.4 langchain-core==1.8.3 openai==3.57.0 <<'PYTHON'
from halves import check
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


async def talk(url):
    async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        model = ChatOpenAI(model="m", base_url=url, max_retries=0, streaming=True)
        agent = create_agent(model, [], checkpointer=saver)
        thread = {"configurable": {"thread_id": "t1"}}
        first, _ = [await agent.ainvoke({"messages": [("user", text)]}, thread) for text in ("one", "two")]
        return first["messages"][-1].content


check(talk, answer="a \ud83d\ude00 b", history="a ?? b")
PYTHON

try_with openai-agents==0.24.0 openai==3.57.0 <<'PYTHON'
from agents import Agent, OpenAIChatCompletionsModel, Runner, SQLiteSession
from halves import check
from openai import AsyncOpenAI


async def talk(url):
    model = OpenAIChatCompletionsModel(model="m", openai_client=AsyncOpenAI(base_url=url, max_retries=0))
    session, answers = SQLiteSession("s1"), []
    for text in ("one", "two"):
        run = Runner.run_streamed(Agent(name="a", model=model), text, session=session)
        async for _ in run.stream_events():
            pass
        answers.append(run.final_output)
    return answers[0]


check(talk, answer="a \ud83d\ude00 b", history="a \U0001f600 b")
PYTHON
