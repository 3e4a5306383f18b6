#!/usr/bin/env bash
# What the AI SDK (npm `ai`) makes of an answer that was cut off and is resumed by `resumeStream()`, whose replay
# begins with the same `start.messageId`. Up to 5.0.232, 6.0.248 and 7.0.60 the page shows the half and the whole, one
# behind the other, in one message; from 5.0.233, 6.0.250 and 7.0.61 the whole takes the half's place. If the answer has
# ended by then, so that the server says 204, the half stays, `status` becomes "ready" and the error is gone: nothing
# says that it is a half (7.0.173). Seen on 2026-11-28.
# So a page that may run with older versions removes the half before it resumes, and one that is answered 204 has to
# load the messages.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >resume.mjs <<'JAVASCRIPT'
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { AbstractChat, DefaultChatTransport } from 'ai';

const sent = (chunks) => chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join('');
const half = sent([
  { type: 'start', messageId: 'm1' },
  { type: 'text-start', id: 't' },
  { type: 'text-delta', id: 't', delta: 'Hel' },
]);
const rest = sent([{ type: 'text-delta', id: 't', delta: 'lo' }, { type: 'text-end', id: 't' }, { type: 'finish' }]);
const [, , answer, expected] = process.argv;

let cut;
const server = createServer((request, response) => {
  if (request.method === 'GET' && answer === '204') return response.writeHead(204).end();
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  if (request.method === 'GET') return response.end(half + rest);
  response.write(half);
  cut = () => request.socket.resetAndDestroy();
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

class State {
  status = 'ready';
  error = undefined;
  messages = [];
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  snapshot = (value) => structuredClone(value);
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, this.snapshot(message));
    cut(); // the half is shown
  };
}
class Chat extends AbstractChat {
  constructor(init) {
    super({ ...init, state: new State() });
  }
}

const api = `http://127.0.0.1:${server.address().port}/chat`;
const chat = new Chat({ id: 'c', transport: new DefaultChatTransport({ api }) });
const texts = () => chat.messages.slice(1).map(({ parts }) => parts.map((part) => part.text).filter(Boolean));
await chat.sendMessage({ text: 'Hi' });
const before = [texts(), chat.status];
await chat.resumeStream();
const seen = JSON.stringify([...before, texts(), chat.status]);
console.log('ai', JSON.parse(readFileSync('node_modules/ai/package.json')).version, answer, seen, chat.error?.message);
process.exit(seen === expected ? 0 : 1);
JAVASCRIPT

try_with() { # version, what the server answers, what is seen
  rm -rf node_modules
  echo '{"private": true, "type": "module"}' >package.json
  npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "ai@$1" zod@4.6.7 >/dev/null
  node resume.mjs "$2" "$3"
}

for version in 5.0.232 6.0.248 7.0.60; do
  try_with "$version" replay '[[["Hel"]],"error",[["Hel","Hello"]],"ready"]'
done
for version in 5.0.233 6.0.250 7.0.61 7.0.173; do
  try_with "$version" replay '[[["Hel"]],"error",[["Hello"]],"ready"]'
done
try_with 7.0.173 204 '[[["Hel"]],"error",[["Hel"]],"ready"]'
