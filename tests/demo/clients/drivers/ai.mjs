// Vercel's AI SDK, with the provider that it has for OpenAI or with that for servers like it.

import { idIn, load, schemas, serve, version, weatherIn } from './protocol.mjs';

const { Output, generateText, isStepCount, stepCountIs, streamText, tool } = await load('ai');
const compatible = process.argv[3] === 'compatible';
const { createOpenAI, createOpenAICompatible } = await load(
  compatible ? '@ai-sdk/openai-compatible' : '@ai-sdk/openai',
);
const { city, weather } = schemas(await load('zod'));
const getWeather = tool({ inputSchema: city, execute: (given) => weatherIn(given.city) });

function modelOf({ url, style }) {
  const given = { baseURL: url, apiKey: 'unused', name: 'demo' };
  if (compatible) {
    return createOpenAICompatible({ ...given, supportsStructuredOutputs: true })('scripted');
  }
  return createOpenAI(given)[style]('scripted');
}

async function drive(ask, seen) {
  let history = [];
  const kept = {};
  for (const text of ask.texts) {
    history = [...(ask.whole ? history : []), { role: 'user', content: contentOf(ask, text) }];
    const given = {
      model: modelOf(ask),
      messages: history,
      headers: ask.headers,
      maxRetries: 0,
      providerOptions: { openai: kept },
      ...(ask.tools && { tools: { get_weather: getWeather }, stopWhen: (stepCountIs ?? isStepCount)(3) }),
      ...(ask.structured && { output: Output.object({ schema: weather }) }),
    };
    const result = ask.stream ? await streamed(given, seen) : await generateText(given);
    const response = await result.response;
    history.push(...(await result.responseMessages ?? response.messages));
    seen.texts.push(await result.text);
    seen.ids.push(idIn(response.headers));
    const last = (await result.providerMetadata)?.openai?.responseId;
    if (ask.via) kept.previousResponseId = last;
    if (ask.structured) seen.value = result.output;
  }
}

function contentOf({ picture }, text) {
  if (!picture) return text;
  const [, mediaType, data] = picture.match(/^data:(.*?);base64,(.*)$/);
  return [{ type: 'text', text }, { type: 'file', mediaType, data }];
}

async function streamed(given, seen) {
  let failure;
  const result = streamText({ ...given, onError: ({ error }) => (failure = error) });
  seen.pieces = 0;
  for await (const _ of result.textStream) seen.pieces += 1;
  if (failure) throw failure;
  return result;
}

const provider = compatible ? '@ai-sdk/openai-compatible' : '@ai-sdk/openai';
await serve(`${version('ai')}, ${version(provider)}`, drive);
