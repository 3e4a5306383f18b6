#!/usr/bin/env bash
# What clients make of events whose lines end in CRLF, which the format allows and sse-starlette 3.7.0 writes by default.
# AG-UI's HttpAgent (@ag-ui/client 1.0.0) splits the stream at "\n\n" alone: it delivers no event while the run is
# going on, and at its end takes all of them for one, a SyntaxError. With `sep="\n"` it gets them all. The AI SDK
# (`ai` 7.0.173) and openai (7.59.0) take both. Seen on 2026-11-28.
# So a server that may have AG-UI's clients writes "\n".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"; kill "$server" 2>/dev/null || true' EXIT
server=
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet \
  sse-starlette==3.7.0 starlette==1.10.0 ag-ui-protocol==1.0.0 uvicorn==0.54.0
echo '{"private": true, "type": "module"}' >package.json
npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error \
  @ag-ui/client@1.0.0 ai@7.0.173 openai@7.59.0 zod@4.6.7 >/dev/null
cat >app.py <<'PYTHON'
import json

from ag_ui.core import events
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route

ABOUT = {"thread_id": "t", "run_id": "r"}
AG_UI = [
    events.RunStartedEvent(**ABOUT),
    events.TextMessageStartEvent(message_id="m", role="assistant"),
    events.TextMessageContentEvent(message_id="m", delta="Hel"),
    events.TextMessageContentEvent(message_id="m", delta="lo"),
    events.TextMessageEndEvent(message_id="m"),
    events.RunFinishedEvent(**ABOUT),
]
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
STREAMS = {
    "ag-ui": [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in AG_UI],
    "ai": [
        {"type": "start", "messageId": "m"},
        {"type": "text-start", "id": "t"},
        {"type": "text-delta", "id": "t", "delta": "Hel"},
        {"type": "text-delta", "id": "t", "delta": "lo"},
        {"type": "text-end", "id": "t"},
    ],
    "openai": [
        CHUNK | {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        for text in ("Hel", "lo")
    ],
}


async def stream(request):
    async def told():
        for each in STREAMS[request.path_params["client"]]:
            yield {"data": json.dumps(each)}

    sep = request.path_params["sep"]
    return EventSourceResponse(told(), **({} if sep == "default" else {"sep": "\n"}))


app = Starlette(routes=[Route("/{client}/{sep}/{rest:path}", stream, methods=["GET", "POST"])])
PYTHON
venv/bin/uvicorn app:app --port 0 --log-level info >server.log 2>&1 &
server=$!
for _ in $(seq 300); do
  port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) .*/\1/p' server.log)
  [ -z "$port" ] || break
  sleep 0.1
done
cat >ask.mjs <<'JAVASCRIPT'
import { HttpAgent } from '@ag-ui/client';
import { DefaultChatTransport } from 'ai';
import OpenAI from 'openai';

const CLIENTS = {
  async 'ag-ui'(url) {
    const agent = new HttpAgent({ url });
    await agent.runAgent();
    return agent.messages.at(-1).content;
  },
  async ai(url) {
    const stream = await new DefaultChatTransport({ api: url }).sendMessages({ chatId: 'c', messages: [] });
    let text = '';
    for await (const chunk of stream) text += chunk.delta ?? '';
    return text;
  },
  async openai(url) {
    const client = new OpenAI({ baseURL: url, apiKey: 'x', maxRetries: 0 });
    let text = '';
    const asked = { model: 'm', messages: [], stream: true };
    for await (const chunk of await client.chat.completions.create(asked)) text += chunk.choices[0].delta.content;
    return text;
  },
};
console.error = () => {};
const seen = [];
for (const [name, ask] of Object.entries(CLIENTS)) {
  for (const sep of ['default', 'lf']) {
    const url = `http://127.0.0.1:${process.argv[2]}/${name}/${sep}/`;
    seen.push(`${name} ${sep} ${await ask(url).catch((error) => error.name)}`);
  }
}
console.log(seen);
const expected = [
  'ag-ui default SyntaxError', 'ag-ui lf Hello', 'ai default Hello', 'ai lf Hello',
  'openai default Hello', 'openai lf Hello',
];
process.exit(JSON.stringify(seen) === JSON.stringify(expected) ? 0 : 1);
JAVASCRIPT
node ask.mjs "$port"
