// OpenAI's Agents SDK for JavaScript.

import { load, schemas, serve, version, weatherIn } from './protocol.mjs';

const agents = await load('@openai/agents');
const { OpenAI } = await load('openai');
const { city, weather } = schemas(await load('zod'));

agents.setTracingDisabled(true);
const getWeather = agents.tool({
  name: 'get_weather',
  description: 'Return the weather.',
  parameters: city,
  execute: (given) => weatherIn(given.city),
});

async function drive(ask, seen) {
  const client = new OpenAI({
    baseURL: ask.url,
    apiKey: 'unused',
    maxRetries: 0,
    defaultHeaders: ask.headers,
  });
  const kind =
    ask.style === 'chat' ? agents.OpenAIChatCompletionsModel : agents.OpenAIResponsesModel;
  const agent = new agents.Agent({
    name: 'A',
    model: new kind(client, 'scripted'),
    tools: ask.tools ? [getWeather] : [],
    ...(ask.structured && { outputType: weather }),
  });
  const options = await via(ask, client);
  let history = [];
  for (const text of ask.texts) {
    const asked = ask.via ? text : [...(ask.whole ? history : []), user(ask, text)];
    const result = await agents.run(agent, asked, { ...options, stream: Boolean(ask.stream) });
    if (ask.stream) {
      seen.pieces = 0;
      for await (const event of result) seen.pieces += event.data?.type === 'output_text_delta';
      await result.completed;
    }
    history = result.history;
    seen.texts.push(String(result.finalOutput));
    seen.ids.push(null); // it shows no headers
    if (ask.structured) seen.value = result.finalOutput;
    if (ask.via === 'previous_response_id') options.previousResponseId = result.lastResponseId;
  }
  if (ask.via === 'session') seen.value = (await options.session.getItems()).length;
}

async function via(ask, client) {
  if (ask.via === 'session') return { session: new agents.OpenAIConversationsSession({ client }) };
  if (ask.via !== 'conversation') return {};
  return { conversationId: (await client.conversations.create({})).id };
}

function user({ picture }, text) {
  if (!picture) return agents.user(text);
  return agents.user([{ type: 'input_text', text }, { type: 'input_image', image: picture }]);
}

await serve(version('@openai/agents'), drive);
