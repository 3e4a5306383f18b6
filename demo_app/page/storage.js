// What this browser remembers: the settings, and the ids of conversations that no list gives.

const SETTINGS = "hermes-settings";
const KEPT = 200; // conversations; the ones that were not opened for longest are forgotten

/** Returns {base, key, model, remember}: the API's address, its key, and the model to ask. */
export function readSettings() {
  const { base = "", key = "", model = "", remember = false } = read("localStorage", SETTINGS) ?? {};
  const ofTab = read("sessionStorage", SETTINGS);
  // Another tab may have given another address since, which this tab's key is not for.
  const held = remember ? key : ((ofTab?.base === base && ofTab.key) || "");
  return { base, key: held, model, remember };
}

/** Keeps them: the key for this tab alone, unless it is to be remembered. */
export function writeSettings({ base, key, model, remember }) {
  write("localStorage", SETTINGS, { base, model, remember, key: remember ? key : "" });
  write("sessionStorage", SETTINGS, { base, key: remember ? "" : key });
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
    return Array.isArray(kept) ? kept.filter((one) => typeof one?.id === "string") : [];
  }

  /** Puts a conversation at the top, or changes it where it stands. */
  put({ id, title, updated_at }) {
    const one = { id, title, updated_at };
    const kept = this.all.filter((other) => other.id !== id);
    kept.push(one);
    kept.sort((a, b) => String(b.updated_at).localeCompare(String(a.updated_at)));
    write("localStorage", this.#name, kept.slice(0, KEPT));
  }

  remove(id) {
    write("localStorage", this.#name, this.all.filter((one) => one.id !== id));
  }
}

function read(storage, name) {
  try {
    return JSON.parse(globalThis[storage].getItem(name)); // which raises where storage is forbidden
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    globalThis[storage].setItem(name, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: what is open stays open.
  }
}
