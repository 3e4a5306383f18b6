// The API, as any page would use it: fetch, three headers of its own, and OpenAI's shapes.

import { readAnswer } from "./answer.js";
import { ApiError, ConnectionLost, isUnsupported, secondsOf } from "./errors.js";
import { wordsOfSilence, wordsOfStatus } from "./words.js";

const SESSION = "X-Hermes-Session-Id";
const PATIENCE = 15_000; // milliseconds for what does not stream
const FIRST = 120_000; // ... until a stream begins
const SILENCE = 45_000; // ... without a sign of life in a stream; the server gives one every 15 seconds
const FIELDS = ["role", "content", "name", "tool_calls", "tool_call_id"];

/** Tells whether a text can be a session's id. */
export function isId(text) {
  return /^[A-Za-z0-9_.:~-]{1,256}$/.test(text) && !text.includes("..") && text !== ".";
}

/** Returns 128 random bits in hex; crypto.randomUUID is not there on plain http. */
export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Api {
  models = []; // the names that the server has told
  hasLabels = true; // sessions can be pinned and archived, as far as is known
  #follows = true; // the server has running answers that can be joined
  #tellsTimes = true; // ... and when messages were stored

  /** Takes the API's address (a URL that ends with "/"), an API key or "", and a model or "". */
  constructor({ base, key, model }) {
    this.base = base;
    this.key = key;
    this.model = model;
  }

  /**
   * Returns an id that nobody has yet: every response is stamped, and so is the list of models.
   *
   * Where that names one model alone, it is asked from now on; else the server chooses.
   */
  async newSession() {
    const response = await this.#fetch("v1/models");
    const models = (await response.json().catch(() => null))?.data;
    if (Array.isArray(models)) this.models = models.map((one) => String(one.id));
    if (this.models.length === 1) this.model ||= this.models[0];
    return response.headers.get(SESSION);
  }

  /**
   * Returns a page of the key's sessions: {data, has_more, next_cursor}.
   *
   * Where the server has labels these are the archived ones, or the others, and the pinned ones come
   * first; an older server, and some stores, list all.
   */
  async list(cursor = null, archived = false) {
    const query = new URLSearchParams({ limit: 30, ...(cursor && { cursor }) });
    if (this.hasLabels) {
      query.set("shelved", archived);
      query.set("order", "pinned");
    }
    try {
      const page = await this.#json(`v1/sessions?${query}`);
      return { ...page, data: page.data.map((one) => ({ ...one, archived: Boolean(one.shelved) })) };
    } catch (error) {
      if (!this.hasLabels || !["invalid_query", "not_supported"].includes(error.code)) throw error;
      this.hasLabels = false;
      return this.list(cursor);
    }
  }

  /** Returns messages of the key's sessions that have these words: {data: [{session_id, title, snippet}]}. */
  search(q) {
    return this.#json(`v1/sessions/search?${new URLSearchParams({ q, limit: 50 })}`);
  }

  /** Returns a session: {id, title, length, updated_at, parent_id}. */
  session(id) {
    return this.#json(`v1/sessions/${encodeURIComponent(id)}`);
  }

  /** Returns the newest messages before a place: {data, positions, created_at, length, has_more, next_before}. */
  async messages(id, before = null, limit = 100) {
    const query = new URLSearchParams({ limit, ...(before !== null && { before }) });
    if (this.#tellsTimes) query.set("include", "created_at");
    try {
      return await this.#json(`v1/sessions/${encodeURIComponent(id)}/messages?${query}`);
    } catch (error) {
      // An older server does not know the parameter, and some stores tell no times.
      if (!this.#tellsTimes || !["invalid_query", "not_supported"].includes(error.code)) throw error;
      this.#tellsTimes = false;
      return this.messages(id, before, limit);
    }
  }

  rename(id, title) {
    return this.#json(`v1/sessions/${encodeURIComponent(id)}`, "PATCH", { title });
  }

  /** Pins or archives a session, or no more. */
  mark(id, { pinned, archived }) {
    return this.#json(`v1/sessions/${encodeURIComponent(id)}`, "PATCH", { pinned, shelved: archived });
  }

  fork(id) {
    return this.#json(`v1/sessions/${encodeURIComponent(id)}/fork`, "POST", {});
  }

  async remove(id) {
    await this.#fetch(`v1/sessions/${encodeURIComponent(id)}`, "DELETE");
  }

  /**
   * Asks, and returns {id, pieces, close()}: the session's id, and the answer as it comes.
   *
   * Where told is true the messages are the whole conversation, whatever is stored; else the last
   * of them is new, and the rest is the server's to know. The same key again is the same turn.
   */
  async ask(id, messages, { told, key, signal }) {
    const headers = { [SESSION]: id, "Idempotency-Key": key };
    if (told) headers["X-Hermes-History-Source"] = "request";
    const sent = messages.map(asSent);
    const body = { ...(this.model && { model: this.model }), stream: true, messages: sent };
    const { response, ...answer } = await this.#stream("v1/chat/completions", "POST", body, { headers, signal });
    return { id: response.headers.get(SESSION) ?? id, ...answer };
  }

  /**
   * Joins the answer that runs in a session: {begin, pieces, close()}, or null where none runs.
   *
   * `after` is the cursor of the last piece that is here already; without one `begin` tells what is
   * answered: {answer, question, turn_id, replace_from}. After a cursor the rest of an answer that
   * has ended is given as well, and null says that it has ended and there is no rest.
   */
  async follow(id, { after = null, signal } = {}) {
    if (!this.#follows) return null;
    const query = after === null ? "" : `?${new URLSearchParams({ after })}`;
    let answer;
    try {
      answer = await this.#stream(`v1/sessions/${encodeURIComponent(id)}/answer${query}`, "GET", undefined, { signal });
    } catch (error) {
      this.#follows = !isUnsupported(error);
      if (!this.#follows || error.code === "cursor_conflict") return null; // which another one runs after
      throw error;
    }
    if (answer.response.status === 204) return null;
    const { value } = after === null ? await answer.pieces.next() : {};
    if (after === null && !value?.begin) throw new ConnectionLost("The server’s answer broke off.");
    return { ...answer, begin: value?.begin ?? null };
  }

  /** Stops the answer that runs in a session, wherever it was asked; false where the server cannot. */
  async stop(id, signal) {
    if (!this.#follows) return false;
    try {
      await this.#fetch(`v1/sessions/${encodeURIComponent(id)}/answer/stop`, "POST", undefined, { signal });
    } catch (error) {
      this.#follows = !isUnsupported(error);
      if (this.#follows) throw error;
    }
    return this.#follows;
  }

  /** Begins a stream, which may then take as long as it likes. */
  async #stream(path, method, body, { headers, signal }) {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), FIRST);
    const close = () => limit.abort();
    try {
      const either = signal ? AbortSignal.any([signal, limit.signal]) : limit.signal;
      const response = await this.#fetch(path, method, body, { headers, signal: either });
      return { response, pieces: readAnswer(response, SILENCE), close };
    } finally {
      clearTimeout(timer);
    }
  }

  async #json(path, method, body) {
    const response = await this.#fetch(path, method, body);
    try {
      return await response.json();
    } catch {
      throw new ConnectionLost("The server’s answer broke off.");
    }
  }

  async #fetch(path, method = "GET", body = undefined, { headers, signal } = {}) {
    const options = { method, headers: { ...headers }, cache: "no-store", redirect: "error" };
    options.signal = signal ?? AbortSignal.timeout(PATIENCE);
    if (this.key) options.headers.Authorization = `Bearer ${this.key}`;
    if (body !== undefined) {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    let response;
    try {
      response = await fetch(this.base + path, options);
    } catch {
      throw new ConnectionLost(wordsOfSilence(this.base));
    }
    if (!response.ok) throw await errorOf(response, this.base);
    return response;
  }
}

/** Returns a message without what the server keeps beside it. */
function asSent(message) {
  const names = FIELDS.filter((name) => (message[name] ?? null) !== null);
  return Object.fromEntries(names.map((name) => [name, message[name]]));
}

async function errorOf(response, base) {
  const told = await response.json().catch(() => null);
  const error = told?.error;
  const message = error?.message ?? wordsOfStatus(response.status, base);
  const after = secondsOf(response.headers.get("Retry-After"));
  return new ApiError(message, response.status, error?.code ?? null, after);
}
