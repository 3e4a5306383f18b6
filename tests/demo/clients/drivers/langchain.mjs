// LangChain for JavaScript.

import { load, schemas, serve, version, weatherIn } from './protocol.mjs';

const { HumanMessage, ToolMessage } = await load('@langchain/core/messages');
const { tool } = await load('@langchain/core/tools');
const { ChatOpenAI } = await load('@langchain/openai');
const { city, weather } = schemas(await load('zod'));
const getWeather = tool((given) => weatherIn(given.city), {
  name: 'get_weather',
  description: 'Return the weather.',
  schema: city,
});

async function drive(ask, seen) {
  let llm = new ChatOpenAI({
    model: 'scripted',
    apiKey: 'unused',
    maxRetries: 0,
    useResponsesApi: ask.style === 'responses',
    configuration: { baseURL: ask.url, defaultHeaders: ask.headers },
  });
  if (ask.structured) {
    const structured = llm.withStructuredOutput(weather, { method: 'jsonSchema' });
    seen.value = await structured.invoke(ask.texts[0]);
    return;
  }
  if (ask.tools) llm = llm.bindTools([getWeather]);
  let history = [];
  for (const text of ask.texts) {
    history = [...(ask.whole || ask.via ? history : []), user(ask, text)];
    await turn(llm, ask, seen, history);
  }
}

async function turn(llm, ask, seen, history) {
  for (;;) {
    const answer = await answered(llm, ask, seen, history);
    history.push(answer);
    for (const { args, id } of answer.tool_calls ?? []) {
      history.push(new ToolMessage({ content: weatherIn(args.city), tool_call_id: id }));
    }
    if (answer.tool_calls?.length) continue;
    seen.texts.push(answer.text);
    seen.ids.push(null); // it shows no headers
    return;
  }
}

async function answered(llm, { stream, via }, seen, history) {
  if (via) return continued(llm, history);
  if (!stream) return llm.invoke(history);
  let answer;
  seen.pieces = 0;
  for await (const chunk of await llm.stream(history)) {
    seen.pieces += Boolean(chunk.text);
    answer = answer ? answer.concat(chunk) : chunk;
  }
  return answer;
}

/** Send what comes after the last answer, which is named. */
async function continued(llm, history) {
  const at = history.findLastIndex((message) => message.getType() === 'ai');
  const previous = at < 0 ? {} : { previous_response_id: history[at].response_metadata.id };
  return llm.invoke(history.slice(at + 1), previous);
}

function user({ picture }, text) {
  if (!picture) return new HumanMessage(text);
  const [, mimeType, data] = picture.match(/^data:(.*?);base64,(.*)$/);
  return new HumanMessage({ contentBlocks: [{ type: 'text', text }, { type: 'image', mimeType, data }] });
}

await serve(version('@langchain/openai'), drive);
