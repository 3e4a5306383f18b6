// One question and its answer, with all the attempts that it takes.

import { randomKey } from "./api.js";
import { ConnectionLost, delayAfter, endsAnswer } from "./errors.js";

const AT_ONCE = 0.3; // seconds at most until an answer that was cut is joined again

/**
 * A question under way, asked here or elsewhere.
 *
 * The key of a question that was asked here is the same in every attempt, so that the server stores
 * one turn, however often the connection breaks. `phase` is "asking", "answering", "stopping",
 * "waiting" (for the next attempt, at `retryAt`, in milliseconds), "failed" (until it is told to go
 * on) or "paused" (while nobody looks).
 */
export class Turn {
  text = "";
  cursor = null; // after the last piece that is here
  phase = "asking";
  error = null;
  retryAt = null;
  hasBegun = false; // the server answers, and goes on if nobody listens
  place = null; // of the question in the conversation, as far as this page knows
  wantsStop = false;
  isLeft = false;
  #isFresh = true; // the next piece is the answer's first
  #attempt = 0;
  #mayHurry = true;
  #controller = new AbortController();
  #wish = null; // why an attempt was cut short: "again" or "pause"
  #wake = () => {};

  /**
   * Takes the question's messages. `earlier` is the conversation before it where that counts instead
   * of the stored one, and `from` the place in the stored one from which the turn replaces it; `key`
   * is null where the question was asked elsewhere, and `answer` the answer that was joined then.
   */
  constructor(question, { earlier = null, from = null, key = randomKey(), answer = null } = {}) {
    this.question = question;
    this.earlier = earlier;
    this.from = from;
    this.key = key;
    this.joined = answer;
    this.name = answer?.begin.answer ?? null;
    this.hasBegun = answer !== null;
  }

  /** Whether it was asked here. */
  get isOwn() {
    return this.key !== null;
  }

  /** Makes attempts until one returns how the answer ended, or the user gives up ("left"). */
  async run(attempt, changed) {
    for (;;) {
      this.#wish = null;
      this.#controller = new AbortController();
      try {
        const state = await attempt(this.#controller.signal);
        return this.isLeft ? "left" : state;
      } catch (error) {
        this.#controller.abort(); // a connection of which nothing came is let go
        if (!this.isLeft) await this.#rest(error, changed);
      }
      if (this.isLeft) return "left";
      this.retryAt = null;
      this.phase = this.wantsStop ? "stopping" : "asking";
      changed();
    }
  }

  /** Has the answer told from its beginning: the next piece takes the place of what came. */
  restart() {
    this.cursor = null;
    this.#isFresh = true;
  }

  /** Is told that the server answers. */
  begin() {
    this.hasBegun = true;
    this.error = null;
    if (this.text && !this.wantsStop) this.phase = "answering";
  }

  /** Takes a piece of the answer. */
  add({ text, cursor }) {
    this.text = this.#isFresh ? text : this.text + text;
    this.#isFresh = false;
    this.cursor = cursor;
    this.name ??= cursor?.slice(0, cursor.lastIndexOf(":")) ?? null;
    if (this.text && !this.wantsStop) this.phase = "answering";
    this.#attempt = 0;
    this.#mayHurry = true;
  }

  /** Repeats it now. */
  retry() {
    this.#wake();
  }

  /** Goes on where only time or a connection was missing, as whoever comes back expects. */
  nudge() {
    if (this.phase !== "failed" || this.error instanceof ConnectionLost) this.#wake();
  }

  /** Connects anew: the network is another one, in which old connections are dead. */
  reconnect() {
    if (this.phase === "paused") return;
    if (this.hasBegun && this.phase !== "failed") this.#interrupt("again");
    this.nudge();
  }

  /** Lets an answer that was asked elsewhere go until it is looked at again. */
  pause() {
    if (!this.isOwn && !["waiting", "failed", "stopping"].includes(this.phase)) this.#interrupt("pause");
  }

  /** Stops the answer; before there is one, the question is taken back. */
  stop() {
    this.wantsStop = true;
    if (!this.hasBegun) return this.#end();
    this.phase = "stopping";
    this.#interrupt("again");
  }

  /** Has no more to do with it; what the server answers, it goes on answering. */
  leave() {
    this.#end();
  }

  #end() {
    this.isLeft = true;
    this.#interrupt("again");
  }

  #interrupt(wish) {
    this.#wish = wish;
    this.#controller.abort();
    this.#wake();
  }

  /** Waits until it is time for the next attempt. */
  async #rest(error, changed) {
    if (this.#wish === "again") return;
    if (this.#wish === "pause") {
      this.phase = "paused";
      await this.#sleep(null);
      return;
    }
    if (endsAnswer(error)) {
      this.hasBegun = false;
      this.restart();
    }
    if (this.hasBegun && this.#mayHurry && error instanceof ConnectionLost) {
      this.#mayHurry = false;
      await this.#sleep(Math.random() * AT_ONCE); // not all pages at once
      return;
    }
    this.error = error;
    this.#attempt += 1;
    const delay = delayAfter(error, this.#attempt);
    this.phase = delay === null ? "failed" : "waiting";
    this.retryAt = delay === null ? null : Date.now() + delay * 1000;
    const pause = this.#sleep(delay);
    changed();
    await pause;
  }

  #sleep(seconds) {
    return new Promise((resolve) => {
      const timer = seconds === null ? null : setTimeout(resolve, seconds * 1000);
      this.#wake = () => { clearTimeout(timer); resolve(); };
    });
  }
}
