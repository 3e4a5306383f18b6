// Shows Markdown that may still be growing. What is drawn is left alone: of an answer that streams only
// the block at its end is touched, so that a text can be selected, and its length costs no time.
// Nodes are made one by one; no text is ever parsed as HTML.

import { announce, copy, icon, make } from "./dom.js";
import { BlockParser } from "./markdown-blocks.js";
import { parseInline, plainText } from "./markdown-inline.js";

const SLICE = 4000; // characters that are drawn in one task, of all texts together; the rest waits for its turn
const PIECE = 5000; // ... that are read for marks together, and laid out: what is longer is cut
const ROWS = 200; // of one table; what is longer goes on in another one below
const LETTER = /\p{L}/u;
const FROM_RIGHT = /[\p{Script=Adlam}\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Nko}\p{Script=Syriac}\p{Script=Thaana}]/u;
const TAGS = { __proto__: null, emphasis: "em", strong: "strong", strike: "del", code: "code", break: "br" };

let left = SLICE; // of this task
let timer = 0;
let whenDrawn = () => {};
const waiting = new Set(); // the views of which more is to be drawn

/** Shows one text in an element of its own; a long one in slices, each in a task of its own. */
export class MarkdownView {
  #text = "";
  #drawn = 0; // characters of it
  #isWhole = false;
  #parser = null;
  #show;

  /** Takes the element, which is empty. A text that was typed is shown as it is. */
  constructor(element, { isTyped = false } = {}) {
    if (isTyped) {
      const paragraph = element.appendChild(make("p", { className: "typed", dir: "auto" }));
      const typed = new Text(paragraph, asTyped);
      this.#show = () => typed.show(this.#text.slice(0, this.#drawn));
    } else {
      const blocks = new Blocks(element, { isOutermost: true });
      this.#parser = new BlockParser();
      this.#show = () => blocks.show(this.#parser.blocks);
    }
  }

  /** Whether all that has come is shown. */
  get isDrawn() {
    return !waiting.has(this);
  }

  /** Whether a text goes on from the one that is shown. */
  canShow(text) {
    return this.#isWhole ? text === this.#text : text.startsWith(this.#text);
  }

  /** Shows a text that goes on from the one before. */
  grow(text) {
    if (this.#isWhole) return;
    this.#text = text;
    if (!waiting.has(this)) this.draw();
  }

  /** Shows a text that is whole, and goes on from the one before. */
  end(text) {
    if (this.#isWhole) return;
    this.#text = text;
    this.#isWhole = true;
    if (!waiting.has(this)) this.draw();
  }

  /** Draws as much more as this task has left, or so many characters. */
  draw(most = left) {
    const from = this.#drawn;
    this.#drawn = Math.min(this.#text.length, from + Math.max(most, 0));
    if (this.#drawn > from) this.#parser?.push(this.#text.slice(from, this.#drawn));
    const isDone = this.#drawn === this.#text.length;
    if (isDone && this.#isWhole) this.#parser?.end();
    this.#show();
    if (isDone) waiting.delete(this);
    else waiting.add(this);
    left -= this.#drawn - from;
    if (this.#drawn > from || !isDone) timer ||= setTimeout(drawMore);
  }

  /** Draws no more of it. */
  leave() {
    waiting.delete(this);
  }
}

function drawMore() {
  timer = 0;
  left = SLICE;
  if (!waiting.size) return;
  for (const view of waiting) if (left > 0) view.draw();
  whenDrawn();
}

/** Draws all that waits for its turn. */
export function drawAll() {
  for (const view of waiting) view.draw(Infinity);
}

/** Calls `listener()` after each task in which more was drawn. */
export function onDrawn(listener) {
  whenDrawn = listener;
}

/** The blocks of a container, in an element. */
class Blocks {
  #host;
  #options;
  #drawn = [];
  #settled = 0; // that many, from the first, are drawn as they will stay

  constructor(host, options = {}) {
    this.#host = host;
    this.#options = options;
  }

  show(blocks) {
    for (let at = this.#settled; at < blocks.length; at += 1) {
      this.#draw(blocks[at], at);
      if (at === this.#settled && blocks[at].closed) this.#settled += 1;
    }
    for (const { element } of this.#drawn.splice(blocks.length)) element.remove();
  }

  #draw(block, at) {
    const kind = kindOf(block);
    const before = this.#drawn[at];
    const drawn = before?.kind === kind ? before : new DRAWN[block.type](block, this.#options);
    drawn.show(block);
    if (this.#options.isOutermost) direct(drawn);
    if (drawn === before) return;
    drawn.kind = kind;
    this.#drawn[at] = drawn;
    if (before) before.element.replaceWith(drawn.element);
    else this.#host.append(drawn.element);
  }
}

/**
 * Gives a block the direction of its first letter. Below the outermost it is inherited: one for each
 * paragraph would scatter a list. With "auto" a browser looks through all of it again with each node.
 */
function direct({ element }) {
  if (element.dir) return;
  const [letter] = LETTER.exec(element.textContent) ?? [];
  if (letter) element.dir = FROM_RIGHT.test(letter) ? "rtl" : "ltr";
}

/** Returns what a block shares with those that its element can show. */
function kindOf({ type, level, ordered, start, align, head }) {
  return JSON.stringify([type, level, ordered, start, align, head]);
}

/**
 * A text in an element, as `read` says: it takes a text, and returns nodes as `parseInline` does.
 *
 * A text of more than PIECE characters is cut in pieces, at a line's end or a space where it has one,
 * of which each is read by itself. So what is read, and laid out, with each piece that comes is bounded.
 */
class Text {
  #host;
  #read;
  #fixed = ""; // what stands in pieces that are full
  #at; // the element of the piece that is not
  #nodes = [];

  constructor(host, read = parseInline) {
    this.#host = this.#at = host;
    this.#read = read;
  }

  show(text) {
    if (!text.startsWith(this.#fixed)) this.#begin();
    while (text.length - this.#fixed.length > PIECE) {
      const piece = pieceOf(text, this.#fixed.length);
      this.#draw(piece.replace(/[\n ]$/, ""));
      this.#fixed += piece;
      this.#at = this.#host.appendChild(make("span", { className: "piece" }));
      this.#nodes = [];
    }
    this.#draw(text.slice(this.#fixed.length));
  }

  #begin() {
    this.#fixed = "";
    this.#nodes = [];
    this.#host.replaceChildren();
    this.#at = this.#host;
  }

  #draw(text) {
    const nodes = this.#read(text);
    patch(this.#at, this.#nodes, nodes, false);
    this.#nodes = nodes;
  }
}

/** Returns the piece of a text that begins at an index, with the line's end or the space after it. */
function pieceOf(text, from) {
  const piece = text.slice(from, from + PIECE);
  for (const mark of ["\n", " "]) {
    const at = piece.lastIndexOf(mark);
    if (at > PIECE / 2) return piece.slice(0, at + 1);
  }
  return /[\ud800-\udbff]$/.test(piece) ? piece.slice(0, -1) : piece;
}

/** Reads a text that is shown as it is. */
function asTyped(text) {
  return text ? [text] : [];
}

/** Has an element show nodes where it shows others, and leaves what is the same alone. */
function patch(host, before, after, isInLink) {
  const shown = host.childNodes;
  const added = document.createDocumentFragment(); // which is put in at once, as the direction of all is read again
  after.forEach((node, at) => {
    if (at >= before.length) added.append(elementOf(node, isInLink));
    else if (!change(shown[at], before[at], node, isInLink)) shown[at].replaceWith(elementOf(node, isInLink));
  });
  while (shown.length > after.length) host.lastChild.remove();
  host.append(added);
}

/** Makes what shows a node show another one; false where that takes another element. */
function change(element, before, after, isInLink) {
  if (typeof before === "string" || typeof after === "string") {
    if (typeof before !== typeof after) return false;
    extend(element, after);
    return true;
  }
  if (before.type !== after.type || before.url !== after.url || before.title !== after.title) return false;
  if (after.type === "code") extend(element.firstChild, after.text);
  else if (after.type === "image") extend(element.lastChild, nameOf(after));
  else if (after.children) patch(element, before.children, after.children, isInLink || after.type === "link");
  return true;
}

/** Writes a text in the place of another one, of which a selection stays where it goes on. */
function extend(node, text) {
  if (node.data === text) return;
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}

function elementOf(node, isInLink) {
  if (typeof node === "string") return document.createTextNode(node);
  if (node.type === "code") return make("code", {}, document.createTextNode(node.text));
  if (node.type === "image") return imageOf(node, isInLink);
  const isLink = node.type === "link" && !isInLink; // a link in a link is text
  const element = isLink ? linkTo(node) : make(TAGS[node.type] ?? "span");
  patch(element, [], node.children ?? [], isInLink || isLink);
  return element;
}

/** An image is a link to it: the page's policy lets it load nothing from elsewhere. */
function imageOf(node, isInLink) {
  const text = document.createTextNode(nameOf(node));
  return isInLink ? make("span", {}, text) : make("a", { ...linkOf(node), className: "image" }, icon("image"), text);
}

function nameOf({ children, url }) {
  return plainText(children) || url;
}

function linkTo(node) {
  return make("a", linkOf(node));
}

function linkOf({ url, title }) {
  return { href: url, target: "_blank", rel: "noopener noreferrer", ...(title && { title }) };
}

class Paragraph {
  element = make("p");
  #text = new Text(this.element);

  show({ text }) {
    this.#text.show(text);
  }
}

class Heading {
  element;
  #text;

  /** A message's own heading is the second level; the text's are below it. */
  constructor({ level }) {
    this.element = make(`h${Math.min(level + 2, 6)}`, { className: `level-${level}` });
    this.#text = new Text(this.element);
  }

  show({ text }) {
    this.#text.show(text);
  }
}

class Rule {
  element = make("hr");

  show() {}
}

/** A formula, as it is written. */
class Formula {
  element = make("p");
  #text = new Text(this.element, asTyped);

  show({ text }) {
    this.#text.show(text);
  }
}

class Code {
  #text = "";
  #fixed = ""; // the lines that will not change
  #count = 0; // how many they are
  #coloured = 0; // characters, when that was done last
  #code = make("code");
  #shown = new Text(this.#code, asTyped);
  #pre = make("pre", { tabIndex: 0, role: "group", dir: "ltr" }, this.#code);
  #language = make("span");
  #button = make("button", { type: "button", className: "icon small", "aria-label": "Copy the code", title: "Copy the code" }, icon("copy"));
  element = make("div", { className: "code", dir: "ltr" }, make("div", { className: "code-head" }, this.#language, this.#button), this.#pre);

  constructor() {
    this.#button.addEventListener("click", () => copyCode(this.#button, this.#text));
  }

  show({ lines, end, language, closed }) {
    if (this.#language.textContent !== language) this.#language.textContent = language;
    this.#pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
    for (; this.#count < end - 1; this.#count += 1) this.#fixed += `${lines[this.#count]}\n`;
    this.#text = this.#fixed + (end ? lines[end - 1] : "");
    this.#shown.show(this.#text);
    this.#colour(language, closed);
  }

  /** Has it coloured, and again when it has grown by some part, so that all of it takes linear time. */
  #colour(language, isWhole) {
    const { length } = this.#text;
    if (!language || length === this.#coloured || (!isWhole && length < this.#coloured * 1.125 + 40)) return;
    this.#coloured = length;
    import("./highlight.js").then(({ colour }) => colour(this.#code, language), () => {}); // it is read without, too
  }
}

class Quote {
  element = make("blockquote");
  #blocks = new Blocks(this.element);

  show({ children }) {
    this.#blocks.show(children);
  }
}

class List {
  element;
  #blocks;

  constructor({ ordered, start }) {
    this.element = make(ordered ? "ol" : "ul", ordered && start !== 1 ? { start } : {});
    this.#blocks = new Blocks(this.element);
  }

  show({ loose, children }) {
    this.element.className = loose ? "loose" : "tight";
    this.#blocks.show(children);
  }
}

class Item {
  element = make("li");
  #text = make("div");
  #box = null;
  #blocks = new Blocks(this.#text);

  constructor() {
    this.element.append(this.#text);
  }

  show({ task, children }) {
    if ((task !== null) !== (this.#box !== null)) this.#setBox(task);
    if (this.#box) {
      this.#box.checked = task;
      this.#box.setAttribute("aria-label", task ? "Done" : "To do");
    }
    this.#blocks.show(children);
  }

  #setBox(task) {
    this.#box?.remove();
    this.#box = task === null ? null : make("input", { type: "checkbox", disabled: true });
    this.element.classList.toggle("task", task !== null);
    if (this.#box) this.element.prepend(this.#box);
  }
}

class Table {
  #rows = []; // of texts, in each row
  #settled = 0;
  /** What is wider than the page is scrolled by itself, with keys too. */
  element = make("div", { className: "table", tabIndex: 0, role: "group", "aria-label": "Table" });
  #body;
  #head;
  #align;

  constructor({ align, head }) {
    this.#align = align;
    this.#head = head;
    this.#begin();
  }

  #begin() {
    const head = make("tr");
    this.#fill(head, [], this.#head, "th");
    this.#body = make("tbody");
    this.element.append(make("table", {}, make("thead", {}, head), this.#body));
  }

  show({ rows }) {
    for (let at = this.#settled; at < rows.length; at += 1) {
      if (at && at % ROWS === 0 && !this.#rows[at]) this.#begin();
      this.#rows[at] ??= { element: this.#body.appendChild(make("tr")), cells: [] };
      this.#fill(this.#rows[at].element, this.#rows[at].cells, rows[at], "td");
    }
    for (const { element } of this.#rows.splice(rows.length)) element.remove();
    this.#settled = Math.max(rows.length - 1, 0); // the last one may still be growing
  }

  #fill(row, cells, texts, tag) {
    texts.slice(0, this.#align.length).forEach((text, at) => {
      if (!cells[at]) {
        const element = row.appendChild(make(tag, this.#align[at] ? { className: this.#align[at] } : {}));
        cells[at] = { element, text: new Text(element) };
      }
      cells[at].text.show(text);
    });
    for (const { element } of cells.splice(texts.length)) element.remove();
  }
}

const DRAWN = {
  __proto__: null, paragraph: Paragraph, heading: Heading, rule: Rule, math: Formula, code: Code, quote: Quote, list: List,
  item: Item, table: Table,
};

async function copyCode(button, text) {
  const done = await copy(text);
  announce(done ? "The code was copied." : "The browser does not let this page copy.");
  button.replaceChildren(icon(done ? "check" : "copy"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1500);
}
