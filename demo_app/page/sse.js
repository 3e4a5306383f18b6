// Server-sent events, read by hand: EventSource cannot send a POST, nor a header.
// The grammar is the HTML standard's, section 9.2.6.

import { ConnectionLost } from "./errors.js";

const LONGEST = 4_000_000; // characters of one event; a server that sends more is not a chat's

/** Reads characters in pieces of any length, and gives the events that they complete. */
export class EventParser {
  #rest = "";
  #seen = 0; // characters of the rest that end no line
  #skipsLineFeed = false;
  #name = "";
  #id = "";
  #data = [];
  #size = 0;

  /** Takes a piece, and returns the events ({name, data, id}) that end in it. */
  push(piece) {
    const events = [];
    this.#rest += piece;
    let start = 0;
    for (let from = this.#seen; ; from = start) {
      // The line feed of a CRLF that was cut in two belongs to the line before.
      if (this.#skipsLineFeed && start < this.#rest.length) {
        if (this.#rest[start] === "\n") start += 1;
        this.#skipsLineFeed = false;
      }
      const end = lineEnd(this.#rest, Math.max(from, start));
      if (end < 0) break;
      this.#skipsLineFeed = this.#rest[end] === "\r";
      this.#line(this.#rest.slice(start, end), events);
      start = end + 1;
    }
    this.#rest = this.#rest.slice(start);
    this.#seen = this.#rest.length;
    if (this.#rest.length + this.#size > LONGEST) throw new RangeError("an event is too long");
    return events;
  }

  #line(line, events) {
    if (!line) {
      if (this.#data.length) events.push({ name: this.#name, data: this.#data.join("\n"), id: this.#id });
      this.#name = "";
      this.#data = [];
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon); // "" where the line is a comment
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    if (field === "id" && !value.includes("\0")) this.#id = value; // it stays until the next one
    if (field === "data") this.#data.push(value);
    if (field === "data") this.#size += value.length;
  }
}

function lineEnd(text, from) {
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === "\n" || text[at] === "\r") return at;
  }
  return -1;
}

/**
 * Yields the events of a response's body. An event that the end cuts off is dropped.
 *
 * A body of which nothing comes for `silence` milliseconds, not even a comment, is a ConnectionLost.
 */
export async function* readEvents(body, silence = Infinity) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await inTime(reader.read(), silence);
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading lets the connection go
  }
}

async function inTime(reading, silence) {
  if (silence === Infinity) return reading;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new ConnectionLost("The server has fallen silent.")), silence);
  });
  try {
    return await Promise.race([reading, late]);
  } finally {
    clearTimeout(timer);
  }
}
