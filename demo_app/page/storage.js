// What this browser remembers: the settings, and the ids of conversations that no list gives.

const SETTINGS = "hermes-settings";
const KEPT = 200; // conversations; the ones that were not opened for longest are forgotten

/** Returns {base, key, model, remember}: the API's address, its key, and the model to ask. */
export function readSettings() {
  const kept = read("localStorage", SETTINGS);
  const ofTab = read("sessionStorage", SETTINGS);
  const [base, model] = [textOf(kept?.base), textOf(kept?.model)];
  const remember = kept?.remember === true;
  // Another tab may have given another address since, which this tab's key is not for.
  const held = textOf(remember || ofTab?.base === base ? (remember ? kept : ofTab).key : "");
  return { base, key: isKey(held) ? held : "", model, remember };
}

/** Keeps them: the key for this tab alone, unless it is to be remembered. */
export function writeSettings({ base, key, model, remember }) {
  write("localStorage", SETTINGS, { base, model, remember, key: remember ? key : "" });
  write("sessionStorage", SETTINGS, { base, key: remember ? "" : key });
}

/** Tells whether a text can be sent as an API key, or is none. */
export function isKey(text) {
  return /^[\x21-\x7e]*$/.test(text);
}

/** Returns the API's address as a URL that ends with "/"; null where the text is no such address. */
export function addressOf(text) {
  try {
    const url = new URL(text.trim() || ".", location.href);
    url.hash = url.search = "";
    url.pathname = `${url.pathname.replace(/\/+$/, "").replace(/\/v1$/, "")}/`;
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** The conversations that were held here, by id: who has an id has the conversation. */
export class OwnList {
  #name;

  constructor(base) {
    this.#name = `hermes-sessions ${base}`;
  }

  get all() {
    const kept = read("localStorage", this.#name);
    return Array.isArray(kept) ? kept.filter((one) => one?.id && typeof one.id === "string").map(asItem) : [];
  }

  /** Puts a conversation at the top, or changes it where it stands. */
  put({ id, title, updated_at, parent_id, pinned, archived }) {
    const one = { id, title, updated_at, parent_id, pinned, archived };
    const kept = this.all.filter((other) => other.id !== id);
    kept.push(one);
    kept.sort((a, b) => String(b.updated_at).localeCompare(String(a.updated_at)));
    write("localStorage", this.#name, kept.slice(0, KEPT));
  }

  remove(id) {
    write("localStorage", this.#name, this.all.filter((one) => one.id !== id));
  }
}

/** Returns a conversation as it is kept, whatever another version has kept of it. */
function asItem({ id, title, updated_at, parent_id, pinned, archived }) {
  const texts = { title: textOf(title), updated_at: textOf(updated_at), parent_id: textOf(parent_id) || null };
  return { id, ...texts, pinned: pinned === true, archived: archived === true };
}

function textOf(value) {
  return typeof value === "string" ? value : "";
}

/** Returns what is kept under a name; null for nothing, and where storage is forbidden. */
export function read(storage, name) {
  try {
    return JSON.parse(globalThis[storage].getItem(name)); // which raises where storage is forbidden
  } catch {
    return null;
  }
}

export function write(storage, name, value) {
  try {
    globalThis[storage].setItem(name, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: what is open stays open.
  }
}
