// The openai npm SDK in a process of its own: one call per line of JSON, one answer.
// Its argument is a file beside whose node_modules the package is installed.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const { OpenAI } = createRequire(process.argv[2])('openai');
const HEADER = 'x-hermes-session-id';

async function answer({ options, method, given }) {
  let requests = 0;
  const counted = (...request) => {
    requests += 1;
    return fetch(...request);
  };
  const client = new OpenAI({ ...options, fetch: counted });
  const names = method.split('.');
  const name = names.pop();
  const owner = names.reduce((found, each) => found[each], client);
  try {
    if (name === 'stream') return await helped(owner.stream(...given), () => requests);
    const { data, response } = await owner[name](...given).withResponse();
    const value = given.some((each) => each?.stream) ? await all(data) : data;
    return { value, id: response.headers.get(HEADER), requests };
  } catch (error) {
    const { status, code, message, headers } = error;
    const id = headers?.get(HEADER) ?? null;
    return { error: { name: error.constructor.name, status, code, message }, id, requests };
  }
}

async function helped(stream, requests) {
  const events = await all(stream);
  return { value: [...events, { type: 'final', response: await stream.finalResponse() }], id: null, requests: requests() };
}

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
