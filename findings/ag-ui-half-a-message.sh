#!/usr/bin/env bash
# What AG-UI's client (npm @ag-ui/client, HttpAgent) makes of streams that valid servers send. A run whose stream ends
# in the middle, without RUN_FINISHED, resolves like a whole one, and so does RUN_ERROR: a subscriber alone knows of
# the end. Whoever rejoins that run by `connectAgent()` and gets its events from the beginning, with the same ids, has
# the text added to the half: "HelHello", for TEXT_MESSAGE_START of a known message does not empty it; a
# MESSAGES_SNAPSHOT without that message, after RUN_STARTED, helps. The outcome "cancelled" is understood from 1.0.0 on
# and rejects the run before. Seen with 0.0.59 and 1.0.0 on 2026-11-28.
# So a server that replays a run begins with a snapshot, and a client counts a run as ended when it has seen the end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >half.mjs <<'JAVASCRIPT'
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { HttpAgent } from '@ag-ui/client';

const ids = { threadId: 't', runId: 'r' };
const started = { type: 'RUN_STARTED', ...ids };
const half = [
  { type: 'TEXT_MESSAGE_START', messageId: 'm1', role: 'assistant' },
  { type: 'TEXT_MESSAGE_CONTENT', messageId: 'm1', delta: 'Hel' },
];
const finished = { type: 'RUN_FINISHED', ...ids };
const end = { type: 'TEXT_MESSAGE_END', messageId: 'm1' };
const rest = [{ type: 'TEXT_MESSAGE_CONTENT', messageId: 'm1', delta: 'lo' }, end, finished];
const snapshot = { type: 'MESSAGES_SNAPSHOT', messages: [{ id: 'u1', role: 'user', content: 'Hi' }] };
const STREAMS = {
  half: [started, ...half],
  failed: [started, ...half, { type: 'RUN_ERROR', message: 'it broke' }],
  cancelled: [started, ...half, end, { ...finished, outcome: { type: 'cancelled' } }],
  replay: [started, ...half, ...rest],
  snapshot: [started, snapshot, ...half, ...rest],
};

const server = createServer((request, response) => {
  const events = STREAMS[request.url.slice(1)];
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.end(events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(''));
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

class Agent extends HttpAgent {
  connect(input) {
    return this.run(input);
  }
}
console.error = console.warn = () => {};

async function seen(...streams) {
  const agent = new Agent({ url: '', threadId: 't', initialMessages: snapshot.messages });
  let results = [];
  for (const [number, stream] of streams.entries()) {
    agent.url = `http://127.0.0.1:${server.address().port}/${stream}`;
    const ended = [];
    const subscriber = {
      onRunFinishedEvent: () => void ended.push('finished'),
      onRunErrorEvent: () => void ended.push('error'),
    };
    const run = number ? agent.connectAgent({}, subscriber) : agent.runAgent({}, subscriber);
    const result = await run.then(() => 'resolves', (error) => error.name);
    if (result !== 'resolves') return result;
    results = [...results, result, ...ended];
  }
  return [...results, agent.messages.at(-1).content].join(' ');
}

const expected = {
  half: 'resolves Hel',
  failed: 'resolves error Hel',
  cancelled: process.argv[2],
  'half replay': 'resolves resolves finished HelHello',
  'half snapshot': 'resolves resolves finished Hello',
};
const told = {};
for (const streams of Object.keys(expected)) told[streams] = await seen(...streams.split(' '));
console.log(JSON.parse(readFileSync('node_modules/@ag-ui/client/package.json')).version, told);
process.exit(JSON.stringify(told) === JSON.stringify(expected) ? 0 : 1);
JAVASCRIPT

try_with() { # version, what becomes of the outcome "cancelled"
  rm -rf node_modules
  echo '{"private": true, "type": "module"}' >package.json
  npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "@ag-ui/client@$1" >/dev/null
  node half.mjs "$2"
}

try_with 0.0.59 ZodError
try_with 1.0.0 'resolves finished Hel'
