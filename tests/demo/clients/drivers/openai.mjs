// The openai npm SDK.

import { HEADER, load, schemas, serve, version, weatherIn } from './protocol.mjs';

const { OpenAI } = await load('openai');
const { zodResponseFormat, zodTextFormat } = await load('openai/helpers/zod');
const { weather } = schemas(await load('zod'));

const FUNCTION = {
  name: 'get_weather',
  strict: true,
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' } },
    required: ['city'],
    additionalProperties: false,
  },
};

async function drive(ask, seen) {
  const client = new OpenAI({ baseURL: ask.url, apiKey: 'unused', maxRetries: 0 });
  let history = [];
  const kept = {};
  if (ask.via === 'conversation') kept.conversation = (await client.conversations.create({})).id;
  for (const text of ask.texts) {
    history = [...(ask.whole ? history : []), user(ask, text)];
    await (ask.style === 'chat' ? chat : respond)(client, ask, seen, history, kept);
  }
}

function user({ picture, style }, text) {
  if (!picture) return { role: 'user', content: text };
  const parts =
    style === 'chat'
      ? [{ type: 'text', text }, { type: 'image_url', image_url: { url: picture } }]
      : [{ type: 'input_text', text }, { type: 'input_image', image_url: picture, detail: 'auto' }];
  return { role: 'user', content: parts };
}

async function chat(client, ask, seen, messages) {
  const tools = ask.tools ? { tools: [{ type: 'function', function: FUNCTION }] } : {};
  const format = ask.structured ? { response_format: zodResponseFormat(weather, 'weather') } : {};
  for (;;) {
    const message = await completed(client, ask, seen, {
      model: 'scripted',
      messages,
      ...tools,
      ...format,
    });
    messages.push(message);
    for (const call of message.tool_calls ?? []) {
      const content = weatherIn(JSON.parse(call.function.arguments).city);
      messages.push({ role: 'tool', tool_call_id: call.id, content });
    }
    if (message.tool_calls?.length) continue;
    seen.texts.push(message.content);
    seen.value = message.parsed ?? null;
    return;
  }
}

async function completed({ chat: { completions } }, { stream, structured, headers }, seen, body) {
  if (stream) {
    const running = completions.stream(body, { headers });
    seen.pieces = 0;
    running.on('content', () => (seen.pieces += 1));
    const completion = await running.finalChatCompletion();
    return completion.choices[0].message;
  }
  const asked = completions[structured ? 'parse' : 'create'](body, { headers });
  if (!structured) seen.ids.push((await asked.asResponse()).headers.get(HEADER));
  return (await asked).choices[0].message;
}

async function respond(client, ask, seen, items, kept) {
  const tools = ask.tools ? { tools: [{ type: 'function', ...FUNCTION }] } : {};
  const text = ask.structured ? { text: { format: zodTextFormat(weather, 'weather') } } : {};
  for (;;) {
    const response = await responded(client, ask, seen, {
      model: 'scripted',
      input: items,
      ...tools,
      ...text,
      ...kept,
      ...(ask.background ? { background: true } : {}),
    });
    if (ask.via) items.length = 0; // the server has all of that
    else items.push(...response.output);
    if (ask.via === 'previous_response_id') kept.previous_response_id = response.id;
    const calls = response.output.filter((item) => item.type === 'function_call');
    for (const { call_id, arguments: given } of calls) {
      const output = weatherIn(JSON.parse(given).city);
      items.push({ type: 'function_call_output', call_id, output });
    }
    if (calls.length) continue;
    seen.texts.push(response.output_text);
    seen.value = response.output_parsed ?? null;
    return;
  }
}

async function responded({ responses }, { stream, structured, headers }, seen, body) {
  if (body.background && !stream) {
    let response = await responses.create(body, { headers });
    while (['queued', 'in_progress'].includes(response.status))
      response = await responses.retrieve(response.id);
    return response;
  }
  if (stream) {
    const running = responses.stream(body, { headers });
    seen.pieces = 0;
    running.on('response.output_text.delta', () => (seen.pieces += 1));
    const response = await running.finalResponse();
    if (!body.background) return response;
    return responses.stream({ response_id: response.id, starting_after: 2 }).finalResponse();
  }
  const asked = responses[structured ? 'parse' : 'create'](body, { headers });
  if (!structured) seen.ids.push((await asked.asResponse()).headers.get(HEADER));
  return asked;
}

await serve(version('openai'), drive);
