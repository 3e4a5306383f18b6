#!/usr/bin/env bash
# What `compactEvents` of AG-UI's client (npm @ag-ui/client 0.0.59 and 1.0.0) makes of a run that failed within a
# message, as ag-ui-langgraph 0.0.47 tells one (TEXT_MESSAGE_START, CONTENT, RUN_ERROR, without TEXT_MESSAGE_END): it puts
# the message behind RUN_ERROR, where no event may be. The package's own HttpAgent takes the events as they came, and
# has the text and the error; the compacted ones it rejects, and both are lost. An open call of a tool goes the same
# way.
# Seen on 2026-11-28.
# So who keeps events compacted closes what is open before RUN_ERROR, or keeps them as they came.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >compact.mjs <<'JAVASCRIPT'
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { HttpAgent, compactEvents } from '@ag-ui/client';

const started = { type: 'RUN_STARTED', threadId: 't', runId: 'r' };
const failed = { type: 'RUN_ERROR', message: 'it broke' };
const message = [
  { type: 'TEXT_MESSAGE_START', messageId: 'm', role: 'assistant' },
  { type: 'TEXT_MESSAGE_CONTENT', messageId: 'm', delta: 'Hel' },
  { type: 'TEXT_MESSAGE_CONTENT', messageId: 'm', delta: 'lo' },
];
const end = { type: 'TEXT_MESSAGE_END', messageId: 'm' };
const call = [
  { type: 'TOOL_CALL_START', toolCallId: 'c', toolCallName: 'weather' },
  { type: 'TOOL_CALL_ARGS', toolCallId: 'c', delta: '{}' },
];
const open = [started, ...message, failed];
const STREAMS = {
  open,
  'open, compacted': compactEvents(open),
  'closed, compacted': compactEvents([started, ...message, end, failed]),
  'call, compacted': compactEvents([started, ...call, failed]),
};
const expected = {
  open: 'resolves with 1 message: it broke',
  'open, compacted': 'rejects with 0 messages: no error',
  'closed, compacted': 'resolves with 1 message: it broke',
  'call, compacted': 'rejects with 0 messages: no error',
};

let events;
const server = createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.end(events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(''));
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
console.error = () => {};

const seen = {};
for (const name of Object.keys(STREAMS)) {
  events = STREAMS[name];
  const agent = new HttpAgent({ url: `http://127.0.0.1:${server.address().port}/` });
  let told = 'no error';
  const run = agent.runAgent({}, { onRunErrorEvent: ({ event }) => void (told = event.message) });
  const result = await run.then(() => 'resolves', () => 'rejects');
  const count = agent.messages.length;
  seen[name] = `${result} with ${count} message${count === 1 ? '' : 's'}: ${told}`;
}
console.log(JSON.parse(readFileSync('node_modules/@ag-ui/client/package.json')).version, seen);
console.log(STREAMS['open, compacted'].map((event) => event.type).join(' '));
process.exit(JSON.stringify(seen) === JSON.stringify(expected) ? 0 : 1);
JAVASCRIPT

for version in 0.0.59 1.0.0; do
  rm -rf node_modules
  echo '{"private": true, "type": "module"}' >package.json
  npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "@ag-ui/client@$version" >/dev/null
  node compact.mjs
done
