// An answer in the shape of Chat Completions, piece by piece.

import { ApiError, ConnectionLost } from "./errors.js";
import { readEvents } from "./sse.js";

const BROKEN = "The connection was lost before the answer was complete.";

/**
 * Yields the text of a response as it comes.
 *
 * Only "[DONE]" ends an answer. A stream that ends without it broke off, and is a ConnectionLost,
 * as is one of which nothing comes for `silence` milliseconds; an error that it brings is an ApiError.
 */
export async function* readAnswer(response, silence) {
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    const whole = await response.json().catch(() => { throw new ConnectionLost(BROKEN); });
    yield whole.choices?.[0]?.message?.content ?? "";
    return;
  }
  const events = readEvents(response.body);
  try {
    for (;;) {
      const { done, value } = await inTime(events.next(), silence);
      if (done) throw new ConnectionLost(BROKEN);
      if (value.data === "[DONE]") return;
      const piece = textOf(value);
      if (piece) yield piece;
    }
  } finally {
    events.return().catch(() => {});
  }
}

function textOf({ name, data }) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ApiError(name === "error" ? data : "The server sent something that is no answer.", 200);
  }
  if (chunk?.error) {
    throw new ApiError(chunk.error.message ?? "The server broke the answer off.", 200, chunk.error.code);
  }
  const content = chunk?.choices?.[0]?.delta?.content;
  return typeof content === "string" ? content : "";
}

async function inTime(next, silence) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new ConnectionLost("The server has fallen silent.")), silence);
  });
  try {
    return await Promise.race([next, late]);
  } catch (error) {
    if (error instanceof ConnectionLost) throw error;
    if (error instanceof RangeError) throw new ApiError("The server sent too much at once.", 200);
    throw new ConnectionLost(BROKEN);
  } finally {
    clearTimeout(timer);
  }
}
