// The list of conversations: the API key's own, or, without a key, the ones this browser knows.

import { OwnList } from "./storage.js";

/**
 * Fires "change". `items` are {id, title, updated_at}, the last changed first; `isOwn` says that they
 * come from this browser: without a key a server lists nothing, since an id is all it takes to read.
 */
export class SessionList extends EventTarget {
  items = [];
  isOwn = true;
  error = null;
  isKeyless = false; // there is no API key, and the server needs one
  #api;
  #own;
  #cursor = null;

  constructor(api) {
    super();
    this.#api = api;
    this.#own = new OwnList(api.base);
    this.isOwn = !api.key;
  }

  get hasMore() {
    return this.#cursor !== null;
  }

  /** Reads the list's beginning anew. */
  async load() {
    await this.#read(async () => {
      if (!this.isOwn) {
        const page = await this.#api.list();
        const known = new Set(page.data.map((one) => one.id));
        // What "load more" had brought stays below.
        const stays = page.has_more && this.items.length > page.data.length;
        const rest = stays ? this.items.filter((one) => !known.has(one.id)) : [];
        this.items = [...page.data, ...rest];
        if (!stays) this.#cursor = page.next_cursor;
      }
    });
  }

  async more() {
    await this.#read(async () => {
      const page = await this.#api.list(this.#cursor);
      const known = new Set(this.items.map((one) => one.id));
      this.items = [...this.items, ...page.data.filter((one) => !known.has(one.id))];
      this.#cursor = page.next_cursor;
    });
  }

  /** Keeps a conversation in this browser's own list. */
  note(one) {
    if (!this.isOwn) return;
    this.#own.put(one);
    this.#showOwn();
  }

  /** Is told that the server does nothing without a key, or not with this one. */
  refuse() {
    this.isKeyless = !this.#api.key;
    this.#fire();
  }

  remove(id) {
    this.#own.remove(id);
    this.items = this.items.filter((one) => one.id !== id);
    this.#fire();
  }

  async #read(reading) {
    try {
      await reading();
      this.error = null;
    } catch (error) {
      if (error.code === "owner_required" && error.status === 403) this.isOwn = true;
      else this.error = error;
    }
    if (this.isOwn) this.#showOwn();
    else this.#fire();
  }

  #showOwn() {
    this.items = this.#own.all;
    this.#fire();
  }

  #fire() {
    this.dispatchEvent(new Event("change"));
  }
}
