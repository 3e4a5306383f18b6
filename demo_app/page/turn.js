// One question and its answer, with all the attempts that it takes.

import { randomKey } from "./api.js";
import { delayAfter } from "./errors.js";

/**
 * A question under way.
 *
 * Its key is the same in every attempt, so that the server stores one turn, however often the
 * connection breaks. `phase` is "asking", "answering", "waiting" (for the next attempt, at
 * `retryAt`, in milliseconds) or "failed" (until it is told to go on).
 */
export class Turn {
  key = randomKey();
  text = "";
  phase = "asking";
  error = null;
  retryAt = null;
  stopped = false;
  before = null; // what was shown before an edit, for where it comes to nothing
  #attempt = 0;
  #controller = new AbortController();
  #wake = () => {};

  /** Takes the question, and the conversation before it where that counts instead of the stored one. */
  constructor(question, earlier = null) {
    this.question = question;
    this.earlier = earlier;
  }

  /** Makes attempts until one succeeds (true), or the user stops or gives up (false). */
  async run(attempt, changed) {
    for (;;) {
      this.#controller = new AbortController();
      try {
        await attempt(this.#controller.signal);
        return true;
      } catch (error) {
        this.#controller.abort(); // a connection of which nothing came is let go
        if (this.stopped) return false;
        this.error = error;
      }
      this.#attempt += 1;
      const delay = delayAfter(this.error, this.#attempt);
      this.phase = delay === null ? "failed" : "waiting";
      this.retryAt = delay === null ? null : Date.now() + delay * 1000;
      const pause = this.#pause(delay);
      changed();
      await pause;
      if (this.stopped) return false;
      this.phase = "asking";
      changed();
    }
  }

  /** Takes a piece of the answer; the first one of an attempt takes the last attempt's place. */
  add(piece) {
    this.text = this.phase === "answering" ? this.text + piece : piece;
    this.phase = "answering";
    this.error = null;
  }

  /** Repeats it now. */
  retry() {
    this.#wake();
  }

  /** Ends it: the answer, the attempt, or the wait for the next one. */
  stop() {
    this.stopped = true;
    this.#controller.abort();
    this.#wake();
  }

  #pause(seconds) {
    return new Promise((resolve) => {
      const timer = seconds === null ? null : setTimeout(resolve, seconds * 1000);
      this.#wake = () => { clearTimeout(timer); resolve(); };
    });
  }
}
