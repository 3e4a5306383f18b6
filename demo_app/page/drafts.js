// What was written and not sent, for each conversation; it lives through a reload.

const KEPT = 50; // drafts of other conversations; those that were not changed for longest are forgotten
const DELAY = 300; // milliseconds after the last key

/** Keeps drafts in this browser's storage, by the API's address and the conversation's id. */
export class Drafts {
  #prefix;
  #held = new Map(); // where the storage is full or forbidden, until the page is closed
  #timer = 0;
  #waiting = null; // {id, text} that is not written yet

  constructor(base) {
    this.#prefix = `hermes-draft ${base} `;
    addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => this.flush());
    this.#prune();
  }

  /** Returns the draft of a conversation, "" where there is none; the new chat's id is "". */
  get(id) {
    this.flush();
    if (this.#held.has(id)) return this.#held.get(id);
    try {
      const { text } = JSON.parse(localStorage.getItem(this.#prefix + id)) ?? {};
      return typeof text === "string" ? text : "";
    } catch {
      return "";
    }
  }

  /** Keeps a draft soon, once nobody types any more. */
  note(id, text) {
    if (this.#waiting && this.#waiting.id !== id) this.flush();
    this.#waiting = { id, text };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), DELAY);
  }

  /** Keeps a draft, or forgets it where it is empty. */
  set(id, text) {
    this.note(id, text);
    this.flush();
  }

  flush() {
    clearTimeout(this.#timer);
    if (!this.#waiting) return;
    const { id, text } = this.#waiting;
    this.#waiting = null;
    this.#held.delete(id);
    try {
      if (text.trim()) localStorage.setItem(this.#prefix + id, JSON.stringify({ text, at: Date.now() }));
      else localStorage.removeItem(this.#prefix + id);
    } catch {
      this.#held.set(id, text);
    }
  }

  #prune() {
    try {
      const names = Object.keys(localStorage).filter((name) => name.startsWith("hermes-draft "));
      if (names.length <= KEPT) return;
      const at = new Map(names.map((name) => [name, timeOf(localStorage.getItem(name))]));
      names.sort((a, b) => at.get(b) - at.get(a));
      for (const name of names.slice(KEPT)) localStorage.removeItem(name);
    } catch {
      // Where storage is forbidden there is none.
    }
  }
}

function timeOf(text) {
  try {
    return JSON.parse(text).at || 0;
  } catch {
    return 0;
  }
}
