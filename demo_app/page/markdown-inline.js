// What stands inside a block of Markdown: emphasis, code, links, line breaks.
//
// Like the blocks' parser it knows nothing of a document. Every character is read a bounded number
// of times, whatever the text: brackets and delimiters wait on stacks, and what has been looked for
// in vain is not looked for again.

const DEEPEST = 32; // marks in each other; what would be deeper is text
const SPECIAL = /[\\`*_~[\]!<&\n$]|https?:\/\//gi;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const SPACE = /\s/u;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const ALLOWED = /^(?:https?:\/\/[^/?#]|mailto:.)/i;
const AUTOLINK = /<([a-z][a-z0-9+.-]{1,31}:[^\s<>\x00-\x20]*)>/iy;
const EMAIL = /<([a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*)>/iy;
const LINE_BREAK = /<br[ \t]*\/?>/iy;
const ENTITY = /&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]{2,8}));/iy;
const BARE = /https?:\/\/(?![/?#])[^\s<>[\]`"\u3000-\u303f\uff00-\uffef]+/iy;
const ENTITIES = {
  __proto__: null, amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", trade: "™",
  hellip: "…", mdash: "—", ndash: "–", larr: "←", rarr: "→", harr: "↔", le: "≤", ge: "≥", ne: "≠", times: "×", divide: "÷",
  deg: "°", plusmn: "±", middot: "·", bull: "•", euro: "€", pound: "£", sect: "§", laquo: "«", raquo: "»",
};

/**
 * Returns what a text is made of: strings, and nodes.
 *
 * A node is emphasis, strong or strike {children}, code {text}, break {}, link or image {url,
 * title, children}, each with its `type`. A link's scheme is http, https or mailto. A string may have
 * line ends in it.
 */
export function parseInline(text) {
  return new Inline(text.trim()).read();
}

/** Returns the text that nodes show, without their marks. */
export function plainText(nodes) {
  return nodes.map((node) => {
    if (typeof node === "string") return node;
    if (node.type === "break") return "\n";
    return node.text ?? plainText(node.children);
  }).join("");
}

class Inline {
  #text;
  #at = 0;
  #tokens = []; // strings, nodes, and delimiters, whose meaning is told later
  #brackets = [];
  #inactive = 0; // that many of them are around a link, and begin none
  #ticks = null; // where the runs of backticks are, by their length
  #lasts = new Map(); // where the marks that end formulas are for the last time

  constructor(text) {
    this.#text = text;
  }

  read() {
    const text = this.#text;
    while (this.#at < text.length) {
      SPECIAL.lastIndex = this.#at;
      const found = SPECIAL.exec(text);
      const next = found ? found.index : text.length;
      if (next > this.#at) this.#add(text.slice(this.#at, next));
      this.#at = next;
      if (found) (READERS[found[0]] ?? this.url).call(this);
    }
    return resolve(this.#tokens);
  }

  #add(token, length = 0) {
    this.#tokens.push(token);
    this.#at += length;
  }

  /** Matches a sticky pattern here. */
  #match(pattern) {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#text);
  }

  escape() {
    const next = this.#text[this.#at + 1] ?? "";
    const end = { "(": "\\)", "[": "\\]" }[next];
    if (end && this.#math(2, end)) return;
    if (next === "\n") this.#add({ type: "break" }, 2);
    else if (ESCAPABLE.test(next)) this.#add(next, 2);
    else this.#add("\\", 1);
  }

  dollar() {
    const length = this.#text[this.#at + 1] === "$" ? 2 : 1;
    const mark = "$".repeat(length);
    if (!this.#math(length, mark)) this.#add(mark, length);
  }

  /** Shows a formula as it is written, where one begins here. */
  #math(length, mark) {
    const begin = this.#at + length;
    const end = this.#find(mark, begin);
    if (end < 0) return false;
    const formula = this.#text.slice(begin, end);
    if (mark === "$" && !isFormula(formula, this.#text[end + 1])) return false;
    this.#add(this.#text.slice(this.#at, end + mark.length), length + formula.length + mark.length);
    return true;
  }

  /** Looks for a mark, but not again where there is none. */
  #find(mark, from) {
    if (!this.#lasts.has(mark)) this.#lasts.set(mark, this.#text.lastIndexOf(mark));
    return from > this.#lasts.get(mark) ? -1 : this.#text.indexOf(mark, from);
  }

  code() {
    const length = this.#runOf("`");
    const end = this.#endOfCode(length);
    if (end < 0) return this.#add("`".repeat(length), length);
    const inside = this.#text.slice(this.#at + length, end).replaceAll("\n", " ");
    const isPadded = inside.startsWith(" ") && inside.endsWith(" ") && inside.trim();
    this.#add({ type: "code", text: isPadded ? inside.slice(1, -1) : inside }, end + length - this.#at);
  }

  #endOfCode(length) {
    if (!this.#ticks) {
      this.#ticks = new Map();
      for (const { 0: run, index } of this.#text.matchAll(/`+/g)) {
        if (!this.#ticks.has(run.length)) this.#ticks.set(run.length, { places: [], at: 0 });
        this.#ticks.get(run.length).places.push(index);
      }
    }
    const runs = this.#ticks.get(length);
    if (!runs) return -1;
    while (runs.places[runs.at] < this.#at + length) runs.at += 1;
    return runs.places[runs.at] ?? -1;
  }

  #runOf(char) {
    let end = this.#at;
    while (this.#text[end] === char) end += 1;
    return end - this.#at;
  }

  delimiter() {
    const char = this.#text[this.#at];
    const length = this.#runOf(char);
    const token = { delimiter: char, length, left: length, ...this.#flanks(char, length) };
    const isOne = char !== "~" || length === 2;
    this.#add(isOne ? token : char.repeat(length), length);
  }

  #flanks(char, length) {
    const before = characterBefore(this.#text, this.#at);
    const after = String.fromCodePoint(this.#text.codePointAt(this.#at + length) ?? 10);
    const [spaceBefore, spaceAfter] = [SPACE.test(before), SPACE.test(after)];
    const [markBefore, markAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
    const left = !spaceAfter && (!markAfter || spaceBefore || markBefore);
    const right = !spaceBefore && (!markBefore || spaceAfter || markAfter);
    if (char !== "_") return { opens: left, closes: right };
    return { opens: left && (!right || markBefore), closes: right && (!left || markAfter) };
  }

  image() {
    if (this.#text[this.#at + 1] !== "[") return this.#add("!", 1);
    this.#brackets.push({ at: this.#tokens.length, isImage: true });
    this.#add("![", 2);
  }

  bracket() {
    this.#brackets.push({ at: this.#tokens.length, isImage: false });
    this.#add("[", 1);
  }

  closeBracket() {
    const opener = this.#brackets.pop();
    const isActive = opener && (opener.isImage || this.#brackets.length >= this.#inactive);
    this.#inactive = Math.min(this.#inactive, this.#brackets.length);
    const target = isActive && readTarget(this.#text, this.#at + 1);
    if (!target || !ALLOWED.test(target.url)) return this.#add("]", 1);
    const children = resolve(this.#tokens.slice(opener.at + 1));
    this.#tokens.length = opener.at;
    if (depthOf(children) >= DEEPEST) {
      this.#brackets = []; // or what is in them would be counted again and again
      for (const token of [opener.isImage ? "![" : "[", ...children]) this.#tokens.push(token);
      return this.#add("]", 1);
    }
    const { url, title, end } = target;
    this.#add(nodeOf(opener.isImage ? "image" : "link", children, { url, title }), end - this.#at);
    if (!opener.isImage) this.#inactive = this.#brackets.length;
  }

  angle() {
    if (this.#match(LINE_BREAK)) return this.#add({ type: "break" }, this.#match(LINE_BREAK)[0].length);
    const [whole, url] = this.#match(AUTOLINK) ?? [];
    if (whole && ALLOWED.test(url)) return this.#add(linkTo(url, url), whole.length);
    const [written, address] = (!whole && this.#match(EMAIL)) || [];
    if (written) return this.#add(linkTo(`mailto:${address}`, address), written.length);
    this.#add(whole ?? "<", (whole ?? "<").length);
  }

  /** Reads an address that stands alone, without what is the sentence's around it. */
  url() {
    const isInWord = /[\p{L}\p{N}]/u.test(characterBefore(this.#text, this.#at));
    const found = isInWord ? null : this.#match(BARE);
    const url = found && withoutSentence(found[0]);
    if (url && ALLOWED.test(url)) this.#add(linkTo(url, url), url.length);
    else this.#add(this.#text[this.#at], 1);
  }

  entity() {
    const [whole, decimal, hexadecimal, name] = this.#match(ENTITY) ?? [];
    const number = decimal ? Number(decimal) : hexadecimal ? parseInt(hexadecimal, 16) : null;
    const character = number === null ? ENTITIES[name] : characterOf(number);
    if (character) this.#add(character, whole.length);
    else this.#add("&", 1);
  }

  lineEnd() {
    const before = this.#tokens.at(-1);
    let spaces = 0;
    if (typeof before === "string") {
      while (before[before.length - 1 - spaces] === " ") spaces += 1;
      this.#tokens[this.#tokens.length - 1] = before.slice(0, before.length - spaces);
    }
    this.#add(spaces >= 2 ? { type: "break" } : "\n", 1);
  }
}

const READERS = {
  __proto__: null,
  "\\": Inline.prototype.escape,
  "`": Inline.prototype.code,
  "*": Inline.prototype.delimiter,
  _: Inline.prototype.delimiter,
  "~": Inline.prototype.delimiter,
  "[": Inline.prototype.bracket,
  "]": Inline.prototype.closeBracket,
  "!": Inline.prototype.image,
  "<": Inline.prototype.angle,
  "&": Inline.prototype.entity,
  "\n": Inline.prototype.lineEnd,
  $: Inline.prototype.dollar,
};

/** Makes nodes of the delimiters that belong together, and text of the others. */
function resolve(tokens) {
  const done = [];
  const openers = []; // {at, token}: where in `done` a delimiter is that still may open
  const floors = new Map(); // by a closer's kind: how many openers there are below which none is its
  for (const token of tokens) {
    if (!token.delimiter) {
      done.push(token);
      continue;
    }
    if (token.closes) close(token, done, openers, floors);
    if (!token.left) continue;
    if (token.opens) openers.push({ at: done.length, token });
    done.push(token);
  }
  return joined(done);
}

function close(token, done, openers, floors) {
  const kind = `${token.delimiter}${token.opens}${token.length % 3}`;
  while (token.left > 0) {
    const index = openerOf(token, openers, floors.get(kind) ?? 0);
    if (index < 0) {
      floors.set(kind, openers.length);
      return;
    }
    const opener = openers[index];
    const length = Math.min(token.left, opener.token.left, 2);
    const children = joined(done.splice(opener.at + 1));
    cut(openers, floors, index + 1);
    if (depthOf(children) >= DEEPEST) {
      cut(openers, floors, 0); // or the children would be counted again and again
      for (const child of children) done.push(child);
      return;
    }
    opener.token.left -= length;
    token.left -= length;
    if (!opener.token.left) {
      done.length = opener.at;
      cut(openers, floors, index);
    }
    done.push(nodeOf(token.delimiter === "~" ? "strike" : length === 2 ? "strong" : "emphasis", children));
  }
}

function openerOf(token, openers, floor) {
  for (let index = openers.length - 1; index >= floor; index -= 1) {
    if (belongs(openers[index].token, token)) return index;
  }
  return -1;
}

function belongs(opener, closer) {
  if (opener.delimiter !== closer.delimiter) return false;
  if (closer.delimiter === "~" || !(opener.closes || closer.opens)) return true;
  // Where one could do both, three in all would be read in two ways.
  return (opener.length + closer.length) % 3 !== 0 || (opener.length % 3 === 0 && closer.length % 3 === 0);
}

function cut(openers, floors, length) {
  openers.length = length;
  for (const [kind, floor] of floors) if (floor > length) floors.set(kind, length);
}

function joined(tokens) {
  const nodes = [];
  for (const token of tokens) {
    const node = token.delimiter ? token.delimiter.repeat(token.left) : token;
    if (typeof node === "string" && typeof nodes.at(-1) === "string") nodes[nodes.length - 1] += node;
    else if (node) nodes.push(node);
  }
  return nodes;
}

function nodeOf(type, children, fields = {}) {
  return { type, ...fields, children, depth: depthOf(children) + 1 };
}

function depthOf(nodes) {
  let depth = 0;
  for (const node of nodes) depth = Math.max(depth, node.depth ?? 0);
  return depth;
}

function linkTo(url, text) {
  return nodeOf("link", [text], { url, title: "" });
}

/** Reads what stands in parentheses after a link's text: {url, title, end}; null where it is none. */
function readTarget(text, from) {
  if (text[from] !== "(") return null;
  let at = passSpace(text, from + 1);
  const destination = text[at] === "<" ? readAngled(text, at) : readPlain(text, at);
  if (!destination) return null;
  const spaced = passSpace(text, destination.end);
  const title = spaced > destination.end ? readTitle(text, spaced) : null;
  at = title ? passSpace(text, title.end) : spaced;
  if (text[at] !== ")") return null;
  return { url: unescapeText(destination.raw), title: title ? unescapeText(title.raw) : "", end: at + 1 };
}

function passSpace(text, at) {
  while (" \t\n".includes(text[at] ?? "x")) at += 1;
  return at;
}

function readAngled(text, from) {
  const pattern = /<((?:[^<>\\\n]|\\.){0,4000})>/y;
  pattern.lastIndex = from;
  const found = pattern.exec(text);
  return found && { raw: found[1], end: pattern.lastIndex };
}

function readPlain(text, from) {
  let depth = 0;
  let at = from;
  for (; at < text.length && text[at] > " " && text[at] !== "\x7f"; at += 1) {
    if (text[at] === "\\" && ESCAPABLE.test(text[at + 1] ?? "")) at += 1;
    else if (text[at] === "(" && (depth += 1) > DEEPEST) return null;
    else if (text[at] === ")" && (depth -= 1) < 0) break;
  }
  return depth > 0 ? null : { raw: text.slice(from, at), end: at };
}

function readTitle(text, from) {
  const pattern = /"((?:[^"\\]|\\[^]){0,4000})"|'((?:[^'\\]|\\[^]){0,4000})'|\(((?:[^()\\]|\\[^]){0,4000})\)/y;
  pattern.lastIndex = from;
  const found = pattern.exec(text);
  return found && { raw: found[1] ?? found[2] ?? found[3], end: pattern.lastIndex };
}

/** Returns a text without the backslashes before its punctuation, and with what its entities stand for. */
export function unescapeText(text) {
  return text.replace(/\\([!-/:-@[-`{-~])|&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]{2,8}));/gi, (whole, mark, decimal, hex, name) => {
    if (mark) return mark;
    return (name ? ENTITIES[name] : characterOf(decimal ? Number(decimal) : parseInt(hex, 16))) ?? whole;
  });
}

function characterOf(number) {
  const isNone = !number || number > 0x10ffff || (number >= 0xd800 && number < 0xe000);
  return isNone ? "\ufffd" : String.fromCodePoint(number);
}

/** Tells a formula from what dollars cost: Markdown would take signs of it away. */
function isFormula(text, after) {
  if (!text || SPACE.test(text[0]) || SPACE.test(text.at(-1)) || /\d/.test(after ?? "")) return false;
  return /[\\_^{]/.test(text) || !SPACE.test(text);
}

function withoutSentence(url) {
  const opened = url.split("(").length;
  let closed = url.split(")").length;
  let end = url.length;
  for (; end > 0; end -= 1) {
    const char = url[end - 1];
    if (char === ")" && closed > opened) closed -= 1;
    else if (!"?!.,:;*_~'".includes(char)) break;
  }
  return url.slice(0, end);
}

function characterBefore(text, at) {
  if (at === 0) return "\n";
  const isPair = at > 1 && text.charCodeAt(at - 1) >= 0xdc00 && text.charCodeAt(at - 1) < 0xe000;
  return String.fromCodePoint(text.codePointAt(isPair ? at - 2 : at - 1));
}
