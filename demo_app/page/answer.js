// An answer as it comes: chat completions, the events of a running answer, or one JSON object.

import { ApiError, ConnectionLost } from "./errors.js";
import { readEvents } from "./sse.js";

const BROKEN = "The connection was lost before the answer was complete.";

/**
 * Yields the pieces of a response as they come, {text, cursor}, and returns how the answer ended.
 *
 * The cursor is the name of the place after the piece, from which the rest can be had; null where
 * the server has none. Who joins an answer without a cursor gets {begin} first, which tells what is
 * answered. Only "[DONE]" or an event named "end" ends an answer. A stream that ends without them
 * broke off, and is a ConnectionLost, as is one of which nothing comes for `silence` milliseconds;
 * an error that it brings is an ApiError.
 */
export async function* readAnswer(response, silence) {
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    const whole = await response.json().catch(() => { throw new ConnectionLost(BROKEN); });
    yield { text: whole.choices?.[0]?.message?.content ?? "", cursor: null };
    return "completed";
  }
  let failure = null; // thrown at the stream's end, by when the server has stored what came
  const ended = (state) => {
    if (failure && state !== "stopped" && state !== "incomplete") throw failure;
    return state;
  };
  try {
    for await (const { name, data, id } of readEvents(response.body, silence)) {
      if (data === "[DONE]") return ended("completed");
      const payload = payloadOf(name, data);
      if (name === "end") return ended(payload.state);
      failure ??= failureOf(payload);
      if (name === "begin") yield { begin: payload };
      else if (!failure) yield { text: textOf(payload), cursor: payload?.event_id ?? (id || null) };
    }
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (error instanceof RangeError) throw new ApiError("The server sent too much at once.", 200);
    if (error instanceof ConnectionLost && !failure) throw error;
  }
  throw failure ?? new ConnectionLost(BROKEN);
}

function payloadOf(name, data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new ApiError(name === "error" ? data : "The server sent something that is no answer.", 200);
  }
}

function failureOf(payload) {
  const error = payload?.error ?? errorOf(payload);
  return error && new ApiError(error.message ?? "The server broke the answer off.", 200, error.code);
}

/** Returns the error that an event of OpenAI's Responses tells, if it does. */
function errorOf(payload) {
  if (payload?.type === "error") return payload;
  return payload?.type === "response.failed" ? (payload.response?.error ?? {}) : null;
}

/** Returns the text of a payload: a chat's chunk, an event of Responses, or a text. */
function textOf(payload) {
  if (typeof payload === "string") return payload;
  const isDelta = payload?.type === "response.output_text.delta";
  const text = isDelta ? payload.delta : payload?.choices?.[0]?.delta?.content;
  return typeof text === "string" ? text : "";
}
