// A conversation as this page knows it: the stored messages, and the turn under way.

import { ApiError, ConnectionLost } from "./errors.js";
import { Exchange } from "./exchange.js";
import { Turn } from "./turn.js";

const PAGE = 100; // messages that are read at once
const MOST = 500; // ... where all are wanted; the server gives no more

/**
 * Fires "change" when something is to be shown anew, "piece" when the answer has grown, "begin" when
 * the id is known or is another one, "asked" when the server answers what was asked here, "stored"
 * after each turn, "answer" with the message that an answer has become, "unanswered" with a question that nothing has come
 * of, "failed" with the error of an answer that was asked elsewhere, and "missing" where nothing is
 * stored.
 */
export class Conversation extends EventTarget {
  id;
  title = null;
  parent = null; // the id of the conversation that it was forked from
  messages = []; // the newest ones, oldest first
  places = []; // where each of them is in the conversation, which may have others that nobody is shown
  times = []; // when each of them was stored, as far as the server tells it
  start = 0; // the place from which on messages were read
  length = 0; // how many there are
  loading = false;
  error = null; // why the messages could not be loaded
  turn = null;
  isGone = false; // it was stored, and is no more
  #api;
  #exchange;
  #updated = null;
  #reading = null; // what load() is waiting for
  #readingOlder = null; // what loadOlder() is waiting for
  #looking = null; // what refresh() is waiting for
  #looksAgain = false; // something has happened since that began
  #turns = 0; // how many there were here
  #lastRun = null; // what run() is waiting for
  #unsure = []; // turns whose answers broke off: they may not be stored
  #isLeft = false;

  constructor(api, id = null) {
    super();
    this.#api = api;
    this.id = id;
    this.#exchange = new Exchange(api, this);
  }

  /** When it was last changed, as the server says it; null where it is not stored. */
  get updated() {
    return this.#updated;
  }

  /** What is shown before the turn under way: not what it replaces. */
  get shown() {
    const from = this.turn?.from ?? this.length;
    return this.messages.filter((_, at) => this.places[at] < from);
  }

  /** Reads the newest messages, and follows an answer that is under way. */
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
      await this.#catchUp(() => this.#stored(), { anew: true });
    } catch (error) {
      this.error = error;
    } finally {
      this.loading = false;
      this.#fire("change");
    }
    if (this.#looksAgain) this.refresh();
  }

  /** Looks whether others have changed the conversation, or ask something in it. */
  refresh() {
    if (this.turn) this.turn.nudge();
    this.#looksAgain = true;
    this.#looking ??= this.#look().finally(() => { this.#looking = null; });
    return this.#looking;
  }

  async #look() {
    while (this.#looksAgain && this.id && !this.turn && !this.loading && !this.#isLeft) {
      this.#looksAgain = false;
      try {
        await this.#catchUp(() => this.#changed());
      } catch {
        // Whoever sends a message next is told.
      }
    }
  }

  /** Takes what `read` returns, and follows the running answer, if there is one. */
  async #catchUp(read, { anew = false } = {}) {
    const turns = this.#turns;
    let answer = await this.#running();
    try {
      let stored = await read();
      while (answer) {
        const { begin, close } = answer;
        answer = await this.#running();
        close();
        // What ran before and after is not among the messages that were read between.
        if (answer?.begin.answer === begin.answer) break;
        stored = await read();
      }
      if (this.turn || turns !== this.#turns || this.#isLeft) {
        this.#looksAgain = true; // what was read is from before a turn, at whose end there is time
        answer?.close();
        return;
      }
      if (stored) this.#take(anew ? stored : this.#withEarlier(stored));
      if (stored && !stored.info && !answer) this.#fire("missing");
      if (answer) this.#follow(answer);
      else this.#fire("change");
    } catch (error) {
      answer?.close();
      throw error;
    }
  }

  /** Reads again what has changed; null where nothing has. */
  async #changed(isOurs = false) {
    const info = await this.#info();
    // Our own change has changed its length, and the messages need not be read again.
    if (isOurs && info) this.#updated = info.updated_at;
    const isSame = this.#updated === (info?.updated_at ?? null) && this.length === (info?.length ?? 0);
    if (isSame && info) this.title = info.title;
    return isSame ? null : this.#stored(info);
  }

  /** Reads the messages before the ones that are here; whether there are more is told by `start`. */
  loadOlder(limit = PAGE) {
    this.#readingOlder ??= this.#readOlder(limit).finally(() => { this.#readingOlder = null; });
    return this.#readingOlder;
  }

  async #readOlder(limit) {
    const { start } = this;
    const page = await this.#api.messages(this.id, start, limit);
    if (this.start !== start) return; // all of it has been read anew meanwhile
    this.messages = [...page.data, ...this.messages];
    this.places = [...page.positions, ...this.places];
    this.times = [...timesOf(page), ...this.times];
    this.start = page.next_before ?? 0;
    this.#fire("change");
  }

  /** Reads the messages from a place on. */
  async loadFrom(place) {
    while (this.start > place && !this.#isLeft) await this.loadOlder(MOST);
  }

  /** Asks something new, which takes the place of a question that has failed. */
  async ask(text) {
    if (this.turn?.phase === "failed") {
      this.giveUp();
      await this.#lastRun;
    }
    if (this.turn) this.#tell("unanswered", text);
    else await this.#run(new Turn([{ role: "user", content: text }]));
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
      if (this.turn) return this.#tell("unanswered", text); // to what others have asked meanwhile
      if (this.messages[this.places.indexOf(place)]?.role !== "user") throw new Error("The conversation has changed meanwhile.");
    } catch (error) {
      this.#tell("unanswered", text);
      throw error;
    }
    const at = this.places.indexOf(place);
    await this.#askAt(at, { ...this.messages[at], content: text });
  }

  /** Stops the answer under way, wherever it was asked. */
  stop() {
    this.turn?.stop();
    this.#fire("change");
  }

  /** Has no more to do with the turn under way: what the server answers, it goes on answering. */
  giveUp() {
    this.turn?.leave();
  }

  /** Ends it, for another one in its place: what cannot be told to be stored is unanswered. */
  leave() {
    this.#isLeft = true;
    if (this.turn) this.giveUp();
    else this.#giveBack();
  }

  retry() {
    this.turn?.retry();
  }

  /** Is told that there is a network again. */
  reconnect() {
    this.turn?.reconnect();
  }

  /** Is told that nobody looks: an answer that was asked elsewhere need not stream. */
  pause() {
    this.turn?.pause();
  }

  async rename(title) {
    const info = await this.#api.rename(this.id, title);
    this.title = info.title;
    this.#fire("change");
  }

  async fork() {
    const made = await this.#api.fork(this.id);
    if (made.title || !this.title) return made;
    return this.#api.rename(made.id, this.title).catch(() => made); // without a title it is a fork too
  }

  async remove() {
    this.giveUp();
    await this.#api.remove(this.id);
  }

  /** Reads all of it: whoever tells the server the history must not leave out what is not shown. */
  async loadAll() {
    await this.load();
    if (this.error) throw this.error;
    while (this.start > 0 && !this.turn) await this.loadOlder(MOST);
  }

  async #askAt(at, question) {
    if (this.turn) return;
    await this.#run(new Turn([question], { earlier: this.messages.slice(0, at), from: this.places[at] }));
  }

  #follow(answer) {
    const { question, replace_from: from } = answer.begin;
    this.#run(new Turn(question, { key: null, from, answer }));
  }

  async #run(turn) {
    if (this.turn) return;
    this.#lastRun = this.#runToEnd(turn);
    await this.#lastRun;
  }

  async #runToEnd(turn) {
    this.turn = turn;
    this.#turns += 1;
    turn.place = turn.from ?? this.length;
    this.#fire("change");
    const state = await turn.run(
      (signal) => this.#exchange.attempt(turn, signal), () => this.#fire("change"),
    );
    const isNew = turn.isOwn && !this.messages.includes(turn.question[0]); // and not regenerated
    // It was stopped before anything came: it is there to be changed, though it may be stored.
    const isTakenBack = state === "occupied" || (!turn.text && (state === "left" || turn.wantsStop));
    if (isNew && state !== "completed" && !isTakenBack) this.#unsure.push(turn);
    await this.#end(turn, state);
    if (isNew && isTakenBack) this.#unsure.push(turn);
    // Who gives up a question that the server refused or failed at is told by it whether it is stored.
    const isToldLater = state === "left" && turn.error && !(turn.error instanceof ConnectionLost);
    if (this.#isLeft || (isTakenBack && !(isToldLater && await this.#isRead()))) this.#giveBack();
    if (state === "failed") this.#tell("failed", turn.error ?? new Error("The answer broke off before its end."));
    if (!this.#isLeft) await this.#settle(turn, state);
    this.#tell("stored", turn.isOwn);
  }

  /** Reads the conversation anew after a turn, and gives back what it does not have; false where it cannot be read. */
  async #isRead() {
    const stored = await this.#stored().catch(() => null);
    if (!stored || this.turn || this.#isLeft) return false;
    this.#take(this.#withEarlier(stored));
    this.#fire("change");
    return true;
  }

  /** Puts what has become of a turn in its place. */
  async #end(turn, state) {
    const isHere = (state === "completed" && turn.isOwn) || state === "left" || state === "occupied";
    const stored = isHere ? null : await this.#stored().catch(() => null);
    if (!stored) this.#keep(turn, state);
    this.turn = null;
    if (stored) this.#take(this.#withEarlier(stored));
    this.#fire("change");
    const last = this.messages.at(-1);
    const isTold = ["completed", "ended", "stopped", "incomplete"].includes(state);
    if (isTold && last?.role === "assistant") this.#tell("answer", last);
  }

  #keep(turn, state) {
    const isDone = state === "completed";
    if (state === "occupied" || (!isDone && !turn.text)) return;
    const answer = { role: "assistant", content: turn.text, ...(!isDone && { status: "incomplete" }) };
    const from = turn.from ?? this.length;
    const added = [...turn.question, answer];
    const kept = this.shown;
    this.messages = [...kept, ...added];
    this.places = [...this.places.slice(0, kept.length), ...added.map((_, at) => from + at)];
    this.times = [...this.times.slice(0, kept.length), ...added.map(() => new Date().toISOString())];
    this.length = from + added.length;
  }

  /** Sees to it that the conversation is as the server has it. */
  async #settle(turn, state) {
    const isOurs = state === "completed" && turn.isOwn && turn.text;
    if (!isOurs || this.#looksAgain) return this.refresh();
    const turns = this.#turns;
    const stored = await this.#changed(true).catch(() => null);
    if (turns !== this.#turns) return;
    if (stored) this.#take(this.#withEarlier(stored));
    this.#fire("change");
  }

  /** Tells whether a turn's question is stored, where it was asked or after that. */
  async hasStored(turn) {
    const { messages, places } = await this.#stored();
    return isAmong(turn, messages, places);
  }

  /** Says that the questions of broken answers are unanswered, unless they are stored after all. */
  #giveBack(isStored = () => false) {
    const lost = this.#unsure.filter((turn) => !isStored(turn));
    this.#unsure = [];
    for (const { question } of lost.reverse()) this.#tell("unanswered", question[0].content); // each goes before the others
  }

  moveTo(id) {
    if (!id || id === this.id) return;
    this.id = id;
    this.isGone = false;
    this.#fire("begin");
  }

  /** Is told that the server answers a turn. */
  begun(turn, isFirst) {
    if (turn.isOwn && isFirst) this.#fire("asked");
    this.#fire("change");
  }

  changed() {
    this.#fire("change");
  }

  grown() {
    this.#fire("piece");
  }

  async #running() {
    if (this.turn || !this.id) return null;
    return this.#api.follow(this.id).catch(() => null); // whether it can be read is told by the rest
  }

  /** Reads {info, messages, places, start, length}. An id that nobody has used is an empty conversation. */
  async #stored(known) {
    const info = known === undefined ? await this.#info() : known;
    const limit = Math.min(Math.max(this.messages.length, PAGE), MOST);
    const page = info ? await this.#api.messages(this.id, null, limit) : { data: [], positions: [], length: 0 };
    const { data: messages, positions: places, length } = page;
    return { info, messages, places, times: timesOf(page), start: page.next_before ?? 0, length };
  }

  async #info() {
    try {
      return await this.#api.session(this.id);
    } catch (error) {
      if (error instanceof ApiError && error.code === "session_not_found") return null;
      throw error;
    }
  }

  /**
   * Adds the earlier messages that are here to the newest ones that were read, for who looks at them.
   *
   * A turn that is replaced takes all that came after it along: where the first message that was read
   * is still the one that was here, so are those before it. What is told to the server is read anew.
   */
  #withEarlier(stored) {
    const at = this.places.indexOf(stored.places[0]);
    if (!stored.start || at < 1 || JSON.stringify(this.messages[at]) !== JSON.stringify(stored.messages[0])) return stored;
    return {
      ...stored,
      messages: [...this.messages.slice(0, at), ...stored.messages],
      places: [...this.places.slice(0, at), ...stored.places],
      times: [...this.times.slice(0, at), ...stored.times],
      start: this.start,
    };
  }

  #take({ info, messages, places, times, start, length }) {
    this.isGone = !info && (this.isGone || this.#updated !== null);
    this.title = info?.title ?? null;
    this.parent = info?.parent_id ?? null;
    this.#updated = info?.updated_at ?? null;
    this.messages = messages;
    this.places = places;
    this.times = times;
    this.start = start;
    this.length = length;
    this.#giveBack((turn) => isAmong(turn, messages, places));
  }

  #fire(name) {
    this.dispatchEvent(new Event(name));
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function isAmong({ question: [{ content }], place }, messages, places) {
  return messages.some((message, at) => (
    places[at] >= place && message.role === "user" && message.content === content
  ));
}

/** Returns the times of a page's messages; null for each where the server tells none. */
function timesOf({ data, created_at: times }) {
  return times ?? data.map(() => null);
}
