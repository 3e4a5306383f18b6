// A conversation as this page knows it: the stored messages, and the turn under way.

import { ApiError, isBusy } from "./errors.js";
import { Turn } from "./turn.js";

/**
 * Fires "change" when something is to be shown anew, "piece" when the answer has grown, "begin" when
 * the id is known or is another one, "stored" after each turn, "answer" with a whole answer,
 * "unanswered" with a question that nothing has come of, and "missing" where nothing is stored.
 */
export class Conversation extends EventTarget {
  id;
  title = null;
  messages = []; // the newest ones, oldest first
  start = 0; // the place of messages[0] in the conversation
  loading = false;
  error = null; // why the messages could not be loaded
  turn = null;
  isGone = false; // it was stored, and is no more
  #api;
  #updated = null;
  #reading = null; // what load() is waiting for
  #unsure = []; // {content, place} of questions whose answers broke off: they may not be stored
  #isLeft = false;

  constructor(api, id = null) {
    super();
    this.#api = api;
    this.id = id;
  }

  /** When it was last changed, as the server says it; null where it is not stored. */
  get updated() {
    return this.#updated;
  }

  get length() {
    return this.start + this.messages.length;
  }

  /** Reads the newest messages. An id that nobody has used is an empty conversation. */
  load() {
    this.#reading ??= this.#read().finally(() => { this.#reading = null; });
    return this.#reading;
  }

  async #read() {
    if (!this.id) return;
    this.loading = true;
    this.error = null;
    this.#fire("change");
    try {
      const info = await this.#info();
      const limit = Math.min(Math.max(this.messages.length, 100), 500);
      const nothing = { data: [], next_before: null };
      const page = info ? await this.#api.messages(this.id, null, limit) : nothing;
      // While a turn is under way the page shows what it asked, and reads all of it at its end.
      if (!this.turn) this.#take(info, page.data, page.next_before ?? 0);
      if (!info && !this.turn) this.#fire("missing");
    } catch (error) {
      this.error = error;
    } finally {
      this.loading = false;
      this.#fire("change");
    }
  }

  /** Reads again if others have changed the conversation; a change of our own changed its length. */
  async refresh({ own = false } = {}) {
    const waits = this.turn?.phase === "waiting" && isBusy(this.turn.error);
    if (!this.id || (this.turn && !waits) || this.loading) return;
    try {
      const info = await this.#info();
      // What it waited for has been stored: the server's Retry-After was the longest it could take.
      if (waits && info?.updated_at !== this.#updated) this.turn?.retry();
      if (this.turn) return;
      if (own && info) this.#updated = info.updated_at;
      const same = this.#updated === (info?.updated_at ?? null) && this.length === (info?.length ?? 0);
      if (!same) await this.load();
      else if (info && info.title !== this.title) this.#retitle(info.title);
    } catch {
      // Whoever sends a message next is told.
    }
  }

  async loadOlder() {
    const page = await this.#api.messages(this.id, this.start);
    this.messages = [...page.data, ...this.messages];
    this.start = page.next_before ?? 0;
    this.#fire("change");
  }

  /** Asks something new. */
  async ask(text) {
    await this.#run(new Turn({ role: "user", content: text }));
  }

  /** Asks the last question again. */
  async regenerate() {
    await this.loadAll();
    const at = this.messages.findLastIndex((message) => message.role === "user");
    if (at >= 0) await this.#askAt(at, this.messages[at]);
  }

  /** Asks something else in the place of an earlier question; what came after it is replaced. */
  async edit(place, text) {
    try {
      await this.loadAll();
      if (this.messages[place]?.role !== "user") throw new Error("The conversation has changed meanwhile.");
    } catch (error) {
      this.#tell("unanswered", text);
      throw error;
    }
    await this.#askAt(place, { ...this.messages[place], content: text });
  }

  stop() {
    this.turn?.stop();
  }

  /** Ends it, for another one in its place: what cannot be told to be stored is unanswered. */
  leave() {
    this.#isLeft = true;
    if (this.turn) this.stop();
    else this.#giveBack();
  }

  retry() {
    this.turn?.retry();
  }

  async rename(title) {
    const info = await this.#api.rename(this.id, title);
    this.#retitle(info.title);
  }

  async fork() {
    const made = await this.#api.fork(this.id);
    if (made.title || !this.title) return made;
    return this.#api.rename(made.id, this.title).catch(() => made); // without a title it is a fork too
  }

  async remove() {
    this.stop();
    await this.#api.remove(this.id);
  }

  /** Reads all of it: whoever tells the server the history must not leave out what is not shown. */
  async loadAll() {
    await this.load();
    if (this.error) throw this.error;
    while (this.start > 0) await this.loadOlder();
  }

  async #askAt(at, question) {
    if (this.turn) return;
    const turn = new Turn(question, this.messages.slice(0, at));
    turn.before = this.messages;
    this.messages = turn.earlier;
    await this.#run(turn);
  }

  async #run(turn) {
    if (this.turn) return;
    this.turn = turn;
    const place = this.length;
    this.#fire("change");
    const done = await turn.run((signal) => this.#attempt(turn, signal), () => this.#fire("change"));
    this.#keep(turn, done);
    this.turn = null;
    this.#fire("change");
    if (done) this.#tell("answer", turn.text);
    if (!done && !turn.before?.includes(turn.question)) {
      this.#unsure.push({ content: turn.question.content, place });
      if (!turn.text) this.#giveBack();
    }
    // A server needs a moment to see that we have left, and to store what it had said.
    if (!done) await new Promise((resolve) => setTimeout(resolve, 500));
    await this.refresh({ own: done });
    if (this.#isLeft) this.#giveBack();
    this.#fire("stored");
  }

  /** Says that the questions of broken answers are unanswered, unless they are stored after all. */
  #giveBack(isStored = () => false) {
    const lost = this.#unsure.filter((one) => !isStored(one));
    this.#unsure = [];
    for (const { content } of lost.reverse()) this.#tell("unanswered", content); // each goes before the others
  }

  async #attempt(turn, signal) {
    // The id comes before the question, so that a question whose answer is lost can be repeated.
    if (!this.id) {
      const id = await this.#api.newSession();
      signal.throwIfAborted(); // or it would move after it has been left
      this.#moveTo(id);
    }
    const messages = [...(turn.earlier ?? []), turn.question];
    const told = turn.earlier !== null;
    const answer = await this.#api.ask(this.id, messages, { told, key: turn.key, signal });
    this.#moveTo(answer.id);
    for await (const piece of answer.pieces) {
      const first = turn.phase !== "answering";
      turn.add(piece);
      this.#fire(first ? "change" : "piece");
    }
  }

  #moveTo(id) {
    if (!id || id === this.id) return;
    this.id = id;
    this.isGone = false;
    this.#fire("begin");
  }

  #keep(turn, done) {
    if (!done && !turn.text) {
      this.messages = turn.before ?? this.messages;
      return;
    }
    const answer = { role: "assistant", content: turn.text, ...(!done && { status: "incomplete" }) };
    this.messages = [...this.messages, turn.question, answer];
  }

  async #info() {
    try {
      return await this.#api.session(this.id);
    } catch (error) {
      if (error instanceof ApiError && error.code === "session_not_found") return null;
      throw error;
    }
  }

  #take(info, messages, start) {
    this.isGone = !info && (this.isGone || this.#updated !== null);
    this.title = info?.title ?? null;
    this.#updated = info?.updated_at ?? null;
    this.messages = messages;
    this.start = start;
    this.#giveBack(({ content, place }) => messages.some((message, at) => (
      start + at >= place && message.role === "user" && message.content === content
    )));
  }

  #retitle(title) {
    this.title = title;
    this.#fire("change");
  }

  #fire(name) {
    this.dispatchEvent(new Event(name));
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
