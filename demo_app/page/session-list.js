// The list of conversations: the API key's own, or, without a key, the ones this browser knows.

import { isUnsupported } from "./errors.js";
import { OwnList } from "./storage.js";

const PAUSE = 200; // milliseconds without a key, after which the server is asked

/**
 * Fires "change". `items` are {id, title, updated_at, parent_id, pinned, archived}, the last changed
 * first; `isOwn` says that they come from this browser: without a key a server lists nothing, since
 * an id is all it takes to read.
 */
export class SessionList extends EventTarget {
  items = [];
  isOwn = true;
  error = null;
  isKeyless = false; // there is no API key, and the server needs one
  query = ""; // what is looked for in the titles
  hits = []; // messages that have it: {session_id, title, snippet: [{text, found}]}
  showsArchived = false; // those that were put away, and not the others
  #api;
  #own;
  #cursor = null;
  #timer = 0;
  #searches = true; // the server finds messages

  constructor(api) {
    super();
    this.#api = api;
    this.#own = new OwnList(api.base);
    this.isOwn = !api.key;
  }

  get hasMore() {
    return this.#cursor !== null;
  }

  /** The items that are to be shown. */
  get shown() {
    const words = this.query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    return this.items.filter((one) => {
      const title = titleOf(one).toLocaleLowerCase();
      return Boolean(one.archived) === this.showsArchived && words.every((word) => title.includes(word));
    });
  }

  /** Whether conversations can be pinned and archived. */
  get canMark() {
    return this.isOwn || this.#api.hasLabels;
  }

  /** Whether there may be some that were put away. */
  get mayHaveArchived() {
    if (this.showsArchived || !this.isOwn) return this.canMark;
    return this.items.some((one) => one.archived);
  }

  find(id) {
    return this.items.find((one) => one.id === id);
  }

  /** Shows what has these words in its title and, where the server finds messages, in these. */
  search(query) {
    this.query = query.trim();
    clearTimeout(this.#timer);
    if (!this.query || this.isOwn) this.hits = [];
    else if (this.#searches) this.#timer = setTimeout(() => this.#find(this.query), PAUSE);
    this.#fire();
  }

  async #find(query) {
    let hits = [];
    try {
      const { data } = await this.#api.search(query);
      // The best of each conversation stands for it.
      hits = data.filter((hit, at) => data.findIndex((one) => one.session_id === hit.session_id) === at);
    } catch (error) {
      // A server without a search takes the path for a session's.
      if (isUnsupported(error) || error.code === "invalid_query") this.#searches = false;
    }
    if (query !== this.query) return; // something else is looked for by now
    this.hits = hits;
    this.#fire();
  }

  /** Shows the conversations that were put away, or the others. */
  async turnTo(archived) {
    this.showsArchived = archived;
    if (!this.isOwn) this.items = [];
    this.#fire();
    if (!this.isOwn) await this.load();
  }

  /** Pins or archives a conversation, or no more: `marks` are {pinned} or {archived}. */
  async mark(id, marks) {
    if (this.isOwn) return this.note({ id, ...marks });
    await this.#api.mark(id, marks);
    this.items = this.items.map((one) => (one.id === id ? { ...one, ...marks } : one));
    await this.load();
  }

  /** Reads the list's beginning anew. */
  async load() {
    await this.#read(async () => {
      if (!this.isOwn) {
        const archived = this.showsArchived;
        const page = await this.#api.list(null, archived);
        if (archived !== this.showsArchived) return; // which has been read since
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
      const page = await this.#api.list(this.#cursor, this.showsArchived);
      const known = new Set(this.items.map((one) => one.id));
      this.items = [...this.items, ...page.data.filter((one) => !known.has(one.id))];
      this.#cursor = page.next_cursor;
    });
  }

  /** Keeps a conversation in this browser's own list. */
  note(one) {
    if (!this.isOwn) return;
    this.#own.put({ ...this.find(one.id), ...one });
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

/** Returns what a conversation is called: its title, or else its first words. */
export function titleOf({ title, first_words: words }) {
  return title || words || "Untitled";
}
