// A transport for `useChat` of Vercel's AI SDK over the routes of docs/ai-sdk.md, which comes back to
// an answer by itself when its connection breaks. It imports nothing of the AI SDK.

import {
  AnswerLost,
  codeOf,
  connected,
  HermesError,
  isCutOff,
  isEventStream,
  isForNow,
  newKey,
  pause,
  readEvents,
  retryAfter,
  waitOf,
} from './hermes-client.js';

/** @typedef {any} UIMessageChunk the AI SDK's own, which this does not import */

/**
 * @typedef {object} TransportOptions
 * @property {string} [api] the chats' path, or URL
 * @property {Record<string, string> | (() => Record<string, string>)} [headers] sent with each
 *   request, such as `Authorization`
 * @property {object} [body] sent with each question
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [retries] how often in a row to come back before a new chunk comes
 * @property {number} [delay] milliseconds before the first retry; each further wait is twice as long
 * @property {number} [silence] milliseconds without a byte after which a connection counts as broken
 */

/**
 * The AI SDK's `ChatTransport`: `useChat({ id, transport: new HermesChatTransport({ api }) })`.
 *
 * A question is sent again under its `Idempotency-Key` when the connection breaks, whenever that is:
 * the server tells the same answer from its beginning, running or ended, and what the page has is
 * left out.
 */
export class HermesChatTransport {
  /** Who reconnects gets the whole answer: the AI SDK puts it in the place of the half that it has. */
  resumeStreamIsReplay = true;

  #options;

  /** @param {TransportOptions} [options] */
  constructor(options = {}) {
    this.#options = { api: '/api/chat', headers: {}, body: {}, retries: 5, delay: 1000, silence: 60_000, ...options };
  }

  /**
   * Ask, and return the answer's chunks.
   *
   * @param {{ trigger: string, chatId: string, messageId?: string, messages: unknown[],
   *   abortSignal?: AbortSignal, headers?: HeadersInit, body?: object }} options
   */
  async sendMessages({ trigger, chatId, messageId, messages, abortSignal, headers, body }) {
    const all = new Headers(headers);
    all.set('Content-Type', 'application/json');
    if (!all.has('Idempotency-Key')) all.set('Idempotency-Key', newKey());
    const told = { ...this.#options.body, ...body, id: chatId, messages, trigger, messageId };
    const init = { method: 'POST', headers: all, body: JSON.stringify(told), signal: abortSignal };
    return this.#chunks(() => this.#fetch('', init), abortSignal);
  }

  /**
   * Return the chunks of the chat's running answer, from its beginning; null if none is running.
   *
   * @param {{ chatId: string, abortSignal?: AbortSignal, headers?: HeadersInit }} options
   */
  async reconnectToStream({ chatId, abortSignal, headers }) {
    const init = { headers, signal: abortSignal };
    try {
      return await this.#chunks(() => this.#fetch(`${pathOf(chatId)}/stream`, init), abortSignal);
    } catch (error) {
      if (error instanceof AnswerLost && error.reason === 'over') return null;
      throw error;
    }
  }

  /**
   * Stop the chat's running answer; its chunks end as the server tells it.
   *
   * `stop()` of `useChat` only closes the page's connection: the answer goes on.
   *
   * @param {string} chatId
   */
  async stop(chatId) {
    const response = await this.#fetch(`${pathOf(chatId)}/stop`, { method: 'POST' });
    if (!response.ok) throw await refusal(response);
  }

  /** @param {string} path @param {RequestInit} init */
  #fetch(path, init) {
    const { api, headers: ours, fetch = globalThis.fetch } = this.#options;
    const headers = new Headers(typeof ours === 'function' ? ours() : ours);
    new Headers(init.headers).forEach((value, key) => headers.set(key, value));
    // `fetch` would carry the headers wherever a redirect leads.
    return fetch(`${api}${path}`, { ...init, headers, redirect: 'error' });
  }

  /**
   * Return the chunks of an answer once it has begun.
   *
   * @param {() => Promise<Response>} ask
   * @param {AbortSignal} [signal]
   * @returns {Promise<ReadableStream<UIMessageChunk>>}
   */
  async #chunks(ask, signal) {
    const chunks = new Replay(ask, this.#options, signal);
    const first = await chunks.begin();
    const rest = chunks.read(first);
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await rest.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => void (await rest.return()),
    });
  }
}

/** Reads an answer that is told from its beginning each time; yields each chunk once. */
class Replay {
  #ask;
  #options;
  #signal;
  #failures = 0;
  #told = 0;
  /** @type {string | undefined} */
  #messageId;

  /**
   * @param {() => Promise<Response>} ask
   * @param {{ retries: number, delay: number, silence: number }} options
   * @param {AbortSignal} [signal]
   */
  constructor(ask, options, signal) {
    this.#ask = ask;
    this.#options = options;
    this.#signal = signal;
  }

  /** Return the response that the answer begins with. */
  async begin() {
    for (;;) {
      let cause;
      let least = 0;
      try {
        const response = await connected(this.#ask(), this.#signal);
        if (response.status === 200 && isEventStream(response)) return response;
        if (response.status === 204) throw new AnswerLost('over', { status: 204 });
        const error = await refusal(response);
        if (!isForNow(response.status, error.code)) throw error;
        [cause, least] = [error, retryAfter(response)];
      } catch (error) {
        if (!isCutOff(error)) throw error;
        cause = error;
      }
      await this.#wait(cause, least);
    }
  }

  /** @param {Response} response @returns {AsyncGenerator<UIMessageChunk, void, void>} */
  async *read(response) {
    for (;;) {
      let cause;
      try {
        if (yield* this.#once(response)) return;
      } catch (error) {
        if (!isCutOff(error)) throw error;
        cause = error;
      }
      await this.#wait(cause);
      response = await this.begin();
    }
  }

  /** Yield what is new in a response; return whether it has told the end. @param {Response} response */
  async *#once(response) {
    let place = 0;
    for await (const { data } of readEvents(response.body, this.#options.silence, this.#signal)) {
      if (data === '[DONE]') return true;
      const chunk = chunkOf(data);
      if (chunk === null) return false; // the server failed to tell the answer, which may go on
      this.#check(chunk);
      place += 1;
      if (place <= this.#told) continue;
      this.#told = place;
      this.#failures = 0;
      yield chunk;
    }
    return false;
  }

  /** See that it is the answer that was begun. @param {UIMessageChunk} chunk */
  #check({ type, messageId }) {
    if (type !== 'start') return;
    if (this.#told > 0 && messageId !== this.#messageId) throw new AnswerLost('replaced');
    this.#messageId = messageId;
  }

  /** @param {unknown} cause @param {number} [least] */
  async #wait(cause, least) {
    const { retries, delay } = this.#options;
    this.#failures += 1;
    if (this.#failures > retries) {
      throw cause instanceof HermesError ? cause : new AnswerLost('unreachable', { cause });
    }
    await pause(waitOf(this.#failures, delay, least), this.#signal);
  }
}

/** @param {string} data @returns {UIMessageChunk | null} */
function chunkOf(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new AnswerLost('unreadable');
  }
  return typeof chunk?.type === 'string' ? chunk : null;
}

/** @param {string} chatId */
function pathOf(chatId) {
  // A URL's parser takes these for folders, even when they are escaped.
  if (chatId === '.' || chatId === '..') throw new TypeError('chatId: it cannot be in a path');
  return `/${encodeURIComponent(chatId)}`;
}

/** @param {Response} response */
async function refusal(response) {
  return new HermesError('the server refused the request', response.status, await codeOf(response));
}
