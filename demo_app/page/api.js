// The API, as any page would use it: fetch, three headers of its own, and OpenAI's shapes.

import { readAnswer } from "./answer.js";
import { ApiError, ConnectionLost, secondsOf } from "./errors.js";

const SESSION = "X-Hermes-Session-Id";
const PATIENCE = 15_000; // milliseconds for what does not stream
const SILENCE = 120_000; // ... and between two pieces of what does
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

  /** Returns a page of the key's sessions: {data, has_more, next_cursor}. */
  list(cursor = null) {
    const query = new URLSearchParams({ limit: 30, ...(cursor && { cursor }) });
    return this.#json(`v1/sessions?${query}`);
  }

  /** Returns a session: {id, title, length, updated_at, parent_id}. */
  session(id) {
    return this.#json(`v1/sessions/${encodeURIComponent(id)}`);
  }

  /** Returns the newest messages before a place: {data, length, has_more, next_before}. */
  messages(id, before = null, limit = 100) {
    const query = new URLSearchParams({ limit, ...(before !== null && { before }) });
    return this.#json(`v1/sessions/${encodeURIComponent(id)}/messages?${query}`);
  }

  rename(id, title) {
    return this.#json(`v1/sessions/${encodeURIComponent(id)}`, "PATCH", { title });
  }

  fork(id) {
    return this.#json(`v1/sessions/${encodeURIComponent(id)}/fork`, "POST", {});
  }

  async remove(id) {
    await this.#fetch(`v1/sessions/${encodeURIComponent(id)}`, "DELETE");
  }

  /**
   * Asks, and returns the session's id and the answer's pieces as they come.
   *
   * Where told is true the messages are the whole conversation, whatever is stored; else the last
   * of them is new, and the rest is the server's to know. The same key again is the same turn.
   */
  async ask(id, messages, { told, key, signal }) {
    const headers = { [SESSION]: id, "Idempotency-Key": key };
    if (told) headers["X-Hermes-History-Source"] = "request";
    const sent = messages.map(asSent);
    const body = { ...(this.model && { model: this.model }), stream: true, messages: sent };
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), SILENCE);
    try {
      const either = AbortSignal.any([signal, limit.signal]);
      const response = await this.#fetch("v1/chat/completions", "POST", body, { headers, signal: either });
      return { id: response.headers.get(SESSION) ?? id, pieces: readAnswer(response, SILENCE) };
    } finally {
      clearTimeout(timer); // the response has begun, and may take as long as it likes
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
      throw new ConnectionLost(this.#unreachable());
    }
    if (!response.ok) throw await errorOf(response, this.base);
    return response;
  }

  #unreachable() {
    if (new URL(this.base).origin === location.origin) return "The server cannot be reached.";
    return `The server at ${this.base} cannot be reached, or does not allow pages of ${location.origin}.`;
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
  const message = error?.message ?? `There is no such API at ${base} (it answered ${response.status}).`;
  const after = secondsOf(response.headers.get("Retry-After"));
  return new ApiError(message, response.status, error?.code ?? null, after);
}
