// A client of a server with hermes_session_mw: it keeps the session's id, reads answers over broken
// connections, stops them, and lists sessions. For browsers, Node 20 and newer, Deno and Bun; there
// is nothing to build or to install. docs/client-helpers.md has examples.

const ID = /^[!-~]{1,256}$/;
const CURSOR = /^(.+):(\d{1,15})$/;
const LONGEST_WAIT = 30_000;
const LONGEST_EVENT = 16 * 1024 * 1024; // characters
const STATES = { answer_stopped: 'stopped', answer_incomplete: 'incomplete' };
const BUSY = new Set(['session_busy', 'session_store_unavailable']);
const TOLD = {
  unreachable: 'the connection broke, and the answer could not be rejoined; it may go on',
  in_doubt: 'the connection broke before the response: the question may have arrived',
  over: 'the answer has ended, and its events are not told any more: load the conversation',
  replaced: 'another answer is running in this session: load the conversation',
  refused: 'the server refused the request',
  unreadable: 'the server sent what is no event of an answer',
  unknown: 'the server has not said yet in which session it answers',
};

/**
 * Where the id is kept: `localStorage`, `sessionStorage`, or anything with these methods.
 *
 * @typedef {object} IdStorage
 * @property {(key: string) => string | null} getItem
 * @property {(key: string, value: string) => void} setItem
 * @property {(key: string) => void} removeItem
 */

/**
 * An event of an answer: its JSON, and its place, for `after`; null where the server tells none.
 *
 * @typedef {{ payload: any, cursor: string | null }} Piece
 */

/**
 * What became of an answer that cannot be read to its end.
 *
 * `over`: it has ended, or none is running; the conversation has what came of it.
 * `unreachable`: the retries are used up; it may go on, and can be followed from its cursor later.
 *
 * @typedef {'unreachable' | 'in_doubt' | 'over' | 'replaced' | 'refused' | 'unreadable' | 'unknown'} Reason
 */

/** The server refused a request, by a status and, if it tells one, the code of its error. */
export class HermesError extends Error {
  /**
   * @param {string} message
   * @param {number | null} status
   * @param {string | null} code
   */
  constructor(message, status = null, code = null) {
    super(status === null ? message : `${message} (${code === null ? status : `${status}, ${code}`})`);
    this.name = new.target.name;
    this.status = status;
    this.code = code;
  }
}

/** An answer cannot be read to its end: `reason` says what became of it. */
export class AnswerLost extends HermesError {
  /**
   * @param {Reason} reason
   * @param {{ status?: number | null, code?: string | null, cursor?: string | null, cause?: unknown }} [more]
   */
  constructor(reason, { status = null, code = null, cursor = null, cause } = {}) {
    super(TOLD[reason], status, code);
    this.reason = reason;
    this.cursor = cursor;
    if (cause !== undefined) this.cause = cause;
  }
}

/** The connection broke, or fell silent. */
class CutOff extends Error {}

/** Return a storage that is forgotten with the page, or the process. @returns {IdStorage} */
export function memoryStorage() {
  const values = new Map();
  return {
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => void values.set(key, value),
    removeItem: (key) => void values.delete(key),
  };
}

/**
 * @typedef {object} Options
 * @property {string} url where the API is, such as `https://chat.example.org/v1`
 * @property {string} [sessions] the path of the session routes, below `url`
 * @property {Record<string, string> | (() => Record<string, string>)} [headers] sent with each
 *   request, such as `Authorization`
 * @property {string} [headerName] the session header's name
 * @property {IdStorage} [storage] where the id is kept; in memory by default
 * @property {string} [storageKey] the id's name there
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [retries] how often in a row to rejoin an answer before a new piece comes
 * @property {number} [delay] milliseconds before the first retry; each further wait is twice as long
 * @property {number} [silence] milliseconds without a byte after which a connection counts as broken
 */

/** Keeps one conversation with one server; the id never goes to another origin, and is never logged. */
export class HermesClient {
  #url;
  #options;
  #storageKey;

  /** @param {Options} options */
  constructor(options) {
    this.#url = new URL(options.url, globalThis.location?.href);
    this.#url.pathname = this.#url.pathname.replace(/\/*$/, '/');
    this.#options = {
      sessions: 'sessions',
      headers: {},
      headerName: 'X-Hermes-Session-Id',
      storage: memoryStorage(),
      retries: 5,
      delay: 1000,
      silence: 60_000,
      ...options,
    };
    this.#storageKey = options.storageKey ?? `hermes-session ${this.#url.href}`;
  }

  /** The session's id; null before the first response. Set null to begin a new conversation. */
  get id() {
    return this.#options.storage.getItem(this.#storageKey);
  }

  set id(/** @type {string | null} */ id) {
    if (id === null) this.#options.storage.removeItem(this.#storageKey);
    else if (ID.test(id)) this.#options.storage.setItem(this.#storageKey, id);
    else throw new TypeError('id: not 1 to 256 visible ASCII characters');
  }

  /** The session header's name. */
  get headerName() {
    return this.#options.headerName;
  }

  /** How answers are rejoined: `retries`, `delay` and `silence`. */
  get patience() {
    const { retries, delay, silence } = this.#options;
    return { retries, delay, silence };
  }

  /**
   * Send a request with the session's id, and keep the id that the response is stamped with.
   *
   * Redirects are refused: `fetch` would carry the id along, wherever they lead.
   *
   * @param {string} path below `url`
   * @param {RequestInit} [init]
   */
  async request(path, init = {}) {
    const name = this.#options.headerName;
    const headers = new Headers(init.headers);
    const sent = this.id;
    if (sent !== null && !headers.has(name)) headers.set(name, sent);
    const response = await this.send(path, { ...init, headers });
    const stamped = this.stampOf(response);
    // A refusal may be stamped with a new id, and the id may have been set meanwhile.
    if (stamped !== null && this.id === sent && (sent === null || response.status < 400)) {
      this.id = stamped;
    }
    return response;
  }

  /**
   * Send a request without the session's id, and ignore the response's.
   *
   * @param {string} path
   * @param {RequestInit} [init]
   */
  async send(path, init = {}) {
    const url = this.urlOf(path);
    const { headers: ours, fetch = globalThis.fetch } = this.#options;
    const headers = new Headers(typeof ours === 'function' ? ours() : ours);
    new Headers(init.headers).forEach((value, key) => headers.set(key, value));
    return fetch(url, { ...init, headers, redirect: 'error' });
  }

  /** Return the URL of a path below the client's own. @param {string} path */
  urlOf(path) {
    const url = new URL(path.replace(/^\/+/, ''), this.#url);
    if (url.origin !== this.#url.origin) throw new TypeError('path: it leads to another origin');
    return url;
  }

  /** Return the id that a response is stamped with, or null. @param {Response} response */
  stampOf(response) {
    const stamped = response.headers.get(this.#options.headerName);
    return stamped !== null && ID.test(stamped) ? stamped : null;
  }

  /**
   * Ask for an answer by a POST of JSON; nothing is sent until its first piece is asked for.
   *
   * It is sent under an `Idempotency-Key`, by which the server knows it again if the connection
   * breaks before the first piece.
   *
   * @param {string} path
   * @param {unknown} body
   * @param {{ headers?: HeadersInit, signal?: AbortSignal }} [options]
   */
  ask(path, body, { headers, signal } = {}) {
    const all = new Headers(headers);
    all.set('Content-Type', 'application/json');
    if (!all.has('Idempotency-Key')) all.set('Idempotency-Key', newKey());
    const init = { method: 'POST', headers: all, body: JSON.stringify(body) };
    this.urlOf(path); // refuses another origin at once
    return new Answer(this, { path, init, signal, after: null, id: null });
  }

  /**
   * Follow the answer that is running in a session, from its beginning or after a cursor.
   *
   * @param {{ id?: string | null, after?: string | null, signal?: AbortSignal }} [options]
   */
  follow({ id = this.id, after = null, signal } = {}) {
    return new Answer(this, { path: null, init: {}, signal, after, id });
  }

  /** Stop the running answer; return false if there is none. @param {string | null} [id] */
  async stop(id = this.id) {
    const response = await this.#ofSession(id, '/answer/stop', { method: 'POST' });
    return response.status === 202;
  }

  /** Return the path of a session's running answer. @param {string} id */
  answerPath(id) {
    return `${this.#sessions}/${encodeURIComponent(id)}/answer`;
  }

  /**
   * Return a page of the sessions, the last changed first: `{ data, has_more, next_cursor }`.
   *
   * @param {{ limit?: number, cursor?: string }} [options]
   */
  async list(options = {}) {
    const response = await this.send(`${this.#sessions}${queryOf(options)}`);
    return (await checked(response)).json();
  }

  /** Return what is known of a session. @param {string | null} [id] */
  async info(id = this.id) {
    return (await this.#ofSession(id, '')).json();
  }

  /**
   * Return a session's newest messages, oldest first: `{ data, length, has_more, next_before }`.
   *
   * @param {string | null} [id]
   * @param {{ limit?: number, before?: number }} [options]
   */
  async messages(id = this.id, options = {}) {
    return (await this.#ofSession(id, `/messages${queryOf(options)}`)).json();
  }

  /** Give a session a title, or none. @param {string} id @param {string | null} title */
  async rename(id, title) {
    return (await this.#ofSession(id, '', json('PATCH', { title }))).json();
  }

  /** Return a new session with the first messages of one. @param {string} id @param {number} [length] */
  async fork(id, length) {
    const body = length === undefined ? {} : { length };
    return (await this.#ofSession(id, '/fork', json('POST', body))).json();
  }

  /** Delete a session, and forget its id. @param {string} id */
  async delete(id) {
    await this.#ofSession(id, '', { method: 'DELETE' });
    if (this.id === id) this.id = null;
  }

  get #sessions() {
    return this.#options.sessions.replace(/^\/+|\/+$/g, '');
  }

  /** @param {string | null} id @param {string} path @param {RequestInit} [init] */
  async #ofSession(id, path, init) {
    if (id === null) throw new TypeError('id: there is no session yet');
    return checked(await this.send(`${this.#sessions}/${encodeURIComponent(id)}${path}`, init));
  }
}

/**
 * An answer: iterate over it, once, to get its pieces. The iteration ends with the answer, whose
 * `state` says how; the connection may break meanwhile: no piece is lost or comes twice.
 *
 * @implements {AsyncIterable<Piece>}
 */
export class Answer {
  /** @type {string | null} `completed`, `incomplete`, `stopped` or `failed`, once it has ended. */
  state = null;
  /** @type {any} The error object by which a stream of OpenAI's ended. */
  error = null;
  /** @type {any} What is answered, told to those who follow an answer from its beginning. */
  begin = null;
  /** @type {string | null} The last piece's cursor. */
  cursor;

  #client;
  #request;
  #id;
  #isFollowing;
  #hasHead = false;
  #byId = false;
  #isOpenAI = false;
  #withoutCursor = 0; // pieces that come again where the request is repeated
  #skip = 0;
  #failures = 0;
  #retryAfter = 0;

  /**
   * Made by `HermesClient`.
   *
   * @param {HermesClient} client
   * @param {{ path: string | null, init: RequestInit, signal?: AbortSignal, after: string | null, id: string | null }} request
   */
  constructor(client, request) {
    this.#client = client;
    this.#request = request;
    this.#id = request.id;
    this.#isFollowing = request.path === null;
    this.cursor = request.after;
  }

  /** Stop the answer, in whatever process it runs; return false if none is running. */
  async stop() {
    if (this.#id === null) throw this.#lost('unknown');
    return this.#client.stop(this.#id);
  }

  /** @returns {AsyncGenerator<Piece, void, void>} */
  async *[Symbol.asyncIterator]() {
    const { silence, retries, delay } = this.#client.patience;
    const { signal } = this.#request;
    while (this.state === null) {
      let cause;
      try {
        const response = await connected(this.#send(), signal);
        yield* this.#hasEvents(response) ? this.#read(response, silence) : this.#whole(response);
      } catch (error) {
        if (!(error instanceof CutOff)) throw error;
        cause = error.cause;
      }
      if (this.state !== null) return;
      if (!this.#isFollowing && !this.#hasHead && this.#id === null) throw this.#lost('in_doubt', { cause });
      this.#failures += 1;
      if (this.#failures > retries) throw this.#lost('unreachable', { cause });
      await pause(waitOf(this.#failures, delay, this.#retryAfter), signal);
    }
  }

  #send() {
    const { path, init, signal } = this.#request;
    this.#retryAfter = 0;
    this.#skip = this.#withoutCursor;
    if (path !== null && this.cursor === null) {
      const headers = new Headers(init.headers);
      // What is sent again belongs to the session of the first time.
      if (!this.#hasHead) this.#id = headers.get(this.#client.headerName) ?? this.#client.id;
      else if (this.#id !== null) headers.set(this.#client.headerName, this.#id);
      return this.#client.request(path, { ...init, headers, signal });
    }
    if (this.#id === null) throw this.#lost('unknown');
    const headers = new Headers(
      this.cursor === null ? {} : { 'Last-Event-ID': bytesOf(before(this.cursor)) },
    );
    return this.#client.send(this.#client.answerPath(this.#id), { headers, signal });
  }

  /** @param {Response} response */
  #hasEvents(response) {
    if (!this.#isFollowing && !this.#hasHead && response.status < 400) {
      this.#hasHead = true;
      this.#id = this.#client.stampOf(response) ?? this.#id;
    }
    return response.status === 200 && isEventStream(response);
  }

  /** @param {Response} response @param {number} silence */
  async *#read(response, silence) {
    for await (const event of readEvents(response.body, silence, this.#request.signal)) {
      const piece = this.#pieceOf(event);
      if (this.state !== null) return;
      if (piece === null || this.#isKnown(piece)) continue;
      this.#failures = 0;
      yield piece;
    }
  }

  /** @param {{ name: string, data: string, id: string }} event @returns {Piece | null} */
  #pieceOf({ name, data, id }) {
    if (data === '[DONE]') {
      this.state = 'completed';
      return null;
    }
    let payload;
    try {
      payload = JSON.parse(data);
    } catch {
      throw this.#lost('unreadable');
    }
    if (name === 'begin') this.begin = payload;
    if (name === 'end') {
      if (typeof payload?.state !== 'string') throw this.#lost('unreadable');
      this.state = payload.state;
    }
    return name === 'begin' || name === 'end' ? null : this.#unnamed(payload, id);
  }

  /** @param {any} payload @param {string} id @returns {Piece | null} */
  #unnamed(payload, id) {
    const fields = payload !== null && typeof payload === 'object' ? payload : {};
    this.#byId ||= id !== '';
    this.#isOpenAI ||= 'choices' in fields;
    const given = id || fields.event_id;
    const cursor = given && typeof given === 'string' ? given : null;
    if ('error' in fields && (this.#isOpenAI || cursor === null)) {
      this.#endBy(fields.error, cursor !== null);
      return null;
    }
    return cursor === null && isIdle(fields) ? null : { payload, cursor };
  }

  /** An error event ends a stream of OpenAI's; in our own it is the server that fails to tell. */
  #endBy(/** @type {any} */ error, /** @type {boolean} */ isTold) {
    if (!this.#byId && !this.#isFollowing) {
      this.state = STATES[/** @type {keyof typeof STATES} */ (error?.code)] ?? 'failed';
    } else if (!isTold) {
      throw new CutOff();
    }
    this.error = error;
  }

  /** Note a piece; return whether it was told before the connection broke. @param {Piece} piece */
  #isKnown({ cursor }) {
    if (this.#skip > 0 && this.cursor === null) {
      this.#skip -= 1;
      return true;
    }
    if (cursor === null) {
      this.#withoutCursor += 1;
      return false;
    }
    const [, newAnswer, place] = CURSOR.exec(cursor) ?? [];
    const [, answer, known] = CURSOR.exec(this.cursor ?? '') ?? [];
    if (answer !== undefined && newAnswer === answer && Number(place) <= Number(known)) return true;
    this.cursor = cursor;
    return false;
  }

  /** Take a response that is no stream of events. @param {Response} response */
  async *#whole(response) {
    const { status } = response;
    if (status === 200) {
      const payload = await connected(response.json(), this.#request.signal, SyntaxError).catch((error) => {
        throw error instanceof SyntaxError ? this.#lost('unreadable', { status }) : error;
      });
      this.state = 'completed';
      yield { payload, cursor: null };
      return;
    }
    if (status === 204) throw this.#lost('over', { status });
    const code = await codeOf(response);
    if (code === 'cursor_conflict') throw this.#lost('replaced', { status, code });
    if (!isForNow(status, code)) throw this.#lost('refused', { status, code });
    this.#retryAfter = retryAfter(response);
  }

  /** @param {Reason} reason @param {object} [more] */
  #lost(reason, more) {
    return new AnswerLost(reason, { cursor: this.cursor, ...more });
  }
}

/** Return a new `Idempotency-Key`. */
export function newKey() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (each) => each.toString(16).padStart(2, '0')).join('');
}

/** Return whether a response is a stream of events. @param {Response} response */
export function isEventStream(response) {
  return /^text\/event-stream\s*(;|$)/i.test(response.headers.get('Content-Type') ?? '');
}

/** Return whether a refusal is for now, so that the request may be sent again. */
export function isForNow(/** @type {number} */ status, /** @type {string | null} */ code) {
  return [502, 503, 504].includes(status) || BUSY.has(code ?? '');
}

/** Return the milliseconds of a response's `Retry-After`, or 0. @param {Response} response */
export function retryAfter(response) {
  const seconds = Number(response.headers.get('Retry-After'));
  return seconds > 0 ? Math.min(seconds * 1000, LONGEST_WAIT) : 0;
}

/** Return how many milliseconds to wait before the nth retry in a row. */
export function waitOf(/** @type {number} */ n, /** @type {number} */ delay, least = 0) {
  return Math.max(Math.min(delay * 2 ** (n - 1), LONGEST_WAIT), least);
}

/** Wait, unless the signal is aborted meanwhile. @param {number} time @param {AbortSignal} [signal] */
export function pause(time, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve(undefined);
    }, time);
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
  });
}

/** Return whether an error is a connection that broke. @param {unknown} error */
export const isCutOff = (error) => error instanceof CutOff;

/**
 * Return what a request, or a part of its body, comes to; a connection that breaks is a `CutOff`.
 *
 * @template T
 * @param {Promise<T>} work
 * @param {AbortSignal} [signal]
 * @param {new (...given: any[]) => Error} [passed] an error that is no broken connection
 */
export async function connected(work, signal, passed = HermesError) {
  try {
    return await work;
  } catch (error) {
    if (signal?.aborted || error instanceof HermesError || error instanceof passed) throw error;
    throw new CutOff('', { cause: error });
  }
}

/**
 * Yield the events of a body that have data; one that the end cuts off is dropped.
 *
 * @param {ReadableStream<Uint8Array> | null} body
 * @param {number} silence milliseconds without a byte after which the connection counts as broken
 * @param {AbortSignal} [signal]
 * @returns {AsyncGenerator<{ name: string, data: string, id: string }, void, void>}
 */
export async function* readEvents(body, silence, signal) {
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let [name, id] = ['', ''];
  /** @type {string[]} */
  let data = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await connected(within(silence, reader.read()), signal);
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const end = rest.endsWith('\r') ? rest.length - 1 : rest.length; // half of a CRLF, perhaps
      const lines = rest.slice(0, end).split(/\r\n|\r|\n/);
      rest = lines.pop() + rest.slice(end);
      if (length + rest.length > LONGEST_EVENT) throw new AnswerLost('unreadable');
      for (const line of lines) {
        if (line === '') {
          if (data.length > 0) yield { name, data: data.join('\n'), id };
          [name, id, data, length] = ['', '', [], 0];
          continue;
        }
        const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
        length += line.length;
        if (field === 'data') data.push(text);
        else if (field === 'event') name = text;
        else if (field === 'id') id = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // who stops reading lets the connection go
  }
}

/**
 * @template T
 * @param {number} time
 * @param {Promise<T>} work
 */
async function within(time, work) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new CutOff('the server has fallen silent')), time);
  });
  try {
    return /** @type {T} */ (await Promise.race([work, late]));
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Return the cursor of the event before: after it there is one left to tell, so that the server also
 * tells the end of an answer that has ended meanwhile.
 *
 * @param {string} cursor
 */
function before(cursor) {
  const [, answer, place] = CURSOR.exec(cursor) ?? [];
  return answer === undefined ? cursor : `${answer}:${Math.max(Number(place) - 1, 0)}`;
}

/** Return a text as a header has it: a character for each byte of UTF-8. @param {string} text */
function bytesOf(text) {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join('');
}

/** Return whether a chunk without a cursor only keeps the connection alive. @param {any} chunk */
function isIdle({ choices }) {
  const says = (/** @type {any} */ each) =>
    Object.keys(each?.delta ?? {}).length > 0 || (each?.finish_reason ?? null) !== null;
  return Array.isArray(choices) && choices.length > 0 && !choices.some(says);
}

/** Return the code of an error in OpenAI's shape, or null. @param {Response} response */
export async function codeOf(response) {
  const body = await response.json().catch(() => null);
  const code = body?.error?.code;
  return typeof code === 'string' && /^\w+$/.test(code) ? code : null;
}

/** @param {Response} response */
async function checked(response) {
  if (response.ok) return response;
  throw new HermesError('the server refused the request', response.status, await codeOf(response));
}

/** @param {string} method @param {unknown} body */
const json = (method, body) => ({
  method,
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body),
});

/** @param {Record<string, string | number | undefined>} options */
function queryOf(options) {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return given.length > 0 ? `?${query}` : '';
}
