// How a turn comes by its answer: it joins the one that runs, asks for one, or finds it stored.

import { ConnectionLost, endsAnswer, isBusy } from "./errors.js";

/**
 * Makes the attempts of a conversation's turns.
 *
 * `on` is the conversation: `id`, `moveTo(id)`, `begun(turn, isFirst)`, `changed()`, `grown()`, `refresh()`,
 * and `hasStored(turn)`, which tells whether a turn's question is stored where it was asked.
 */
export class Exchange {
  #api;
  #on;

  constructor(api, on) {
    this.#api = api;
    this.#on = on;
  }

  /**
   * Makes one attempt, and returns how the answer ended.
   *
   * That is "completed", "stopped", "incomplete" or "failed", as the server says; "ended" where it
   * is to be read from the conversation; "occupied" where the conversation has an answer under way
   * to another question, and this one was not asked.
   */
  async attempt(turn, signal) {
    if (turn.wantsStop && !(await this.#api.stop(this.#on.id, signal))) {
      // The server saw us leave, and needs a moment to store what it had said.
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    const answer = await this.#running(turn, signal);
    if (answer && isOf(answer, turn)) return this.#read(turn, answer, signal);
    answer?.close();
    if (turn.hasBegun && (turn.wantsStop || !turn.isOwn || await this.#on.hasStored(turn))) {
      return turn.wantsStop ? "stopped" : "ended";
    }
    if (answer) return "occupied";
    turn.restart();
    return this.#ask(turn, signal);
  }

  async #running(turn, signal) {
    if (turn.joined) {
      const answer = turn.joined;
      turn.joined = null;
      return answer;
    }
    if (!this.#on.id) return null;
    try {
      return await this.#api.follow(this.#on.id, { after: turn.cursor, signal });
    } catch (error) {
      if (error.code !== "invalid_cursor") throw error;
      // A server that was killed has lost the last moment of what it had sent.
      return this.#api.follow(this.#on.id, { signal });
    }
  }

  async #ask(turn, signal) {
    const on = this.#on;
    if (!on.id) {
      // The id comes before the question, so that a question whose answer is lost can be repeated.
      const id = await this.#api.newSession();
      signal.throwIfAborted(); // or it would move after it has been left
      on.moveTo(id);
    }
    const messages = [...(turn.earlier ?? []), ...turn.question];
    const request = new AbortController();
    const asking = this.#api.ask(on.id, messages, {
      told: turn.earlier !== null, key: turn.key, signal: request.signal,
    });
    signal.addEventListener("abort", () => {
      if (turn.wantsStop && !turn.hasBegun) this.#stopLate(asking);
      else request.abort();
    });
    try {
      const answer = await Promise.race([asking, aborted(signal)]);
      on.moveTo(answer.id);
      return await this.#read(turn, answer, signal);
    } catch (error) {
      if (isBusy(error) && await this.#isOccupied(turn, signal)) return "occupied";
      throw error;
    }
  }

  /** Stops an answer that was not wanted any more before it began, as soon as it begins. */
  async #stopLate(asking) {
    try {
      const answer = await asking;
      answer.close();
      await this.#api.stop(answer.id);
      await this.#on.refresh();
    } catch {
      // It did not begin, or the server cannot be reached: the conversation shows what it does.
    }
  }

  async #isOccupied(turn, signal) {
    const answer = await this.#api.follow(this.#on.id, { signal });
    answer?.close();
    return answer !== null && !isOf(answer, turn);
  }

  async #read(turn, answer, signal) {
    signal.addEventListener("abort", answer.close);
    const isFirst = !turn.hasBegun;
    if (answer.begin) turn.restart();
    turn.begin();
    this.#on.begun(turn, isFirst);
    try {
      for (;;) {
        const { done, value } = await answer.pieces.next();
        if (done) return value;
        const { phase } = turn;
        turn.add(value);
        if (turn.phase === phase) this.#on.grown();
        else this.#on.changed();
      }
    } catch (error) {
      const state = endsAnswer(error) ? stateOf(error, turn) : null;
      if (!state) throw error; // whoever asked is told, and may try again
      turn.error = error;
      return state;
    }
  }
}

/** Returns how an answer has ended that ends with an error; null where its own question failed. */
function stateOf({ code }, { wantsStop, isOwn }) {
  if (wantsStop || code === "answer_stopped") return "stopped";
  if (code === "answer_incomplete") return "incomplete";
  return isOwn ? null : "failed";
}

/** Tells whether an answer that was joined is the turn's; after its own cursor it is. */
function isOf({ begin }, { key, name }) {
  return !begin || begin.answer === name || (key !== null && begin.turn_id === key);
}

function aborted(signal) {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new ConnectionLost("It was interrupted.")));
  });
}
