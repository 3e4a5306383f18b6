// The blocks of a Markdown text that may still be growing: CommonMark's, and GitHub's tables and tasks.
//
// It knows nothing of a document, and runs in Node as well. A text is read line by line, and what a
// line adds is only ever added at the end of the blocks that are open. So a block that is closed is
// as it will stay, whatever comes after it, and that is what lets a page draw it once.
// docs/demo.md says which constructs there are, and what deliberately differs from CommonMark.

import { unescapeText } from "./markdown-inline.js";

const DEEPEST = 40; // containers in each other; what would be deeper is text
const MOST_CELLS = 200; // of a row; the rest of the line is not shown in columns
const UNDECIDED = /^[\s\d=*_+#>~`|:.)\\$-]{1,200}$/; // a line of which this is the beginning may become anything
const ITEM = /([-+*])(?=[ \t]|$)|(\d{1,9})([.)])(?=[ \t]|$)/y;
const HEADING = /(#{1,6})(?=[ \t]|$)/y;
const FENCE = /(`{3,})([^`]*)$|(~{3,})(.*)$/y;
const UNDERLINE = /(?:=+|-+)[ \t]*$/y;
const RULE = /(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/y;
const MATH = /(?:\$\$|\\\[)(?=[ \t]|$|\\begin)/y;
const TASK = /^\[([ xX])\][ \t]+(?=\S)/;

/**
 * Reads a text that comes in pieces.
 *
 * `blocks` is the tree of all that has come. Each block has a `type`, and `closed` once it will not
 * change any more:
 *
 *   paragraph {text}   heading {level, text}   rule   math {text}
 *   code {lines, end, language}: the lines before `end` are shown
 *   quote {children}   list {ordered, start, loose, children}   item {task, children}
 *   table {align, head, rows}: texts; align is "", "left", "center" or "right" for each column
 *
 * `text` is what the inline parser reads; a math block's is shown as it is. `task` is null, or
 * whether the task is done.
 */
export class BlockParser {
  #root = { type: "document", children: [], closed: false };
  #open = [this.#root]; // the containers that are open, outermost first
  #leaf = null; // the block in the last of them that takes lines
  #blank = Infinity; // where the line before was blank: the depth of the innermost quote around it
  #rest = ""; // the line that has no end yet
  #mark = null; // how it was before that line

  get blocks() {
    return this.#root.children;
  }

  /** Takes more of the text. */
  push(text) {
    this.#undo();
    const all = this.#rest + text;
    // Half of a \r\n may have come.
    const lines = all.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) this.#read(line);
    const rest = this.#rest.endsWith("\r") ? this.#rest.slice(0, -1) : this.#rest;
    if (!rest || UNDECIDED.test(rest)) return;
    this.#keep();
    this.#read(rest);
  }

  /** Takes the end of the text, and closes all blocks. */
  end() {
    this.#undo();
    const rest = this.#rest.replace(/\r$/, "");
    if (rest) this.#read(rest);
    this.#rest = "";
    this.#closeTo(0);
  }

  /** Remembers what a line may change: the open blocks, and how many children each has. */
  #keep() {
    const open = [...this.#open];
    this.#mark = {
      open,
      leaf: this.#leaf,
      blank: this.#blank,
      counts: open.map(({ children }) => children.length),
      lasts: open.map(({ children }) => children.at(-1)),
      fields: open.map((block) => ({ ...block })),
      leafFields: { ...this.#leaf },
      size: (this.#leaf?.lines ?? this.#leaf?.rows)?.length,
    };
  }

  #undo() {
    const mark = this.#mark;
    if (!mark) return;
    this.#mark = null;
    this.#open = mark.open;
    this.#leaf = mark.leaf;
    this.#blank = mark.blank;
    mark.open.forEach((block, at) => {
      Object.assign(block, mark.fields[at]);
      block.children.length = mark.counts[at];
      if (mark.counts[at]) block.children[mark.counts[at] - 1] = mark.lasts[at];
    });
    if (!mark.leaf) return;
    Object.assign(mark.leaf, mark.leafFields);
    const grown = mark.leaf.lines ?? mark.leaf.rows;
    if (grown) grown.length = mark.size;
  }

  #read(text) {
    const line = new Line(text.replaceAll("\0", "\ufffd"));
    let depth = 1;
    while (depth < this.#open.length && continues(this.#open[depth], line)) depth += 1;
    const isInside = depth === this.#open.length;
    if (isInside && this.#leaf && this.#goesOn(this.#leaf, line)) return;
    const state = { depth, isInside, hasItem: false };
    const begun = this.#beginBlocks(line, state);
    if (begun) return;
    if (line.isBlank) this.#takeBlank(state);
    else this.#takeText(line, state);
  }

  /** Gives a line to the block that takes lines as they are; false where that block ends before it. */
  #goesOn(leaf, line) {
    const take = TAKERS[leaf.type];
    const taken = take ? take(leaf, line) : null;
    if (taken === null) return false;
    if (taken === "last") this.#closeLeaf();
    this.#blank = leaf.fence || !line.isBlank ? Infinity : this.#quoteDepth();
    return true;
  }

  /** Opens the containers that a line begins; true where it begins a leaf, and all of it is used. */
  #beginBlocks(line, state) {
    for (;;) {
      const { indent } = line;
      if (line.isBlank) return false;
      if (indent >= 4) {
        if (this.#leaf?.type === "paragraph" && !state.isNew) return false;
        this.#add({ type: "code", lines: [], end: 0, language: "", fence: null }, state);
        this.#goesOn(this.#leaf, line);
        return true;
      }
      if (this.#beginLeaf(line, state)) return true;
      if (!this.#beginContainer(line, state)) return false;
    }
  }

  #beginContainer(line, state) {
    if (this.#open.length >= DEEPEST && state.depth >= DEEPEST) return false;
    if (line.char === ">") {
      this.#add({ type: "quote", children: [] }, state);
      line.passQuote();
      return true;
    }
    return this.#beginItem(line, state);
  }

  #beginItem(line, state) {
    const found = line.match(ITEM);
    if (!found) return false;
    const [marker, bullet, number, delimiter] = found;
    const isEmpty = line.isBlankAfter(marker.length);
    const interrupts = this.#isInParagraph(state);
    if (interrupts && (isEmpty || (number && Number(number) !== 1))) return false;
    const { indent } = line;
    const kind = bullet ?? delimiter;
    const offset = indent + line.passMarker(marker.length, isEmpty);
    const tip = this.#open[state.depth - 1];
    if (!(tip.type === "list" && tip.kind === kind)) {
      const start = number ? Number(number) : 1;
      this.#add({ type: "list", kind, ordered: !bullet, start, loose: false, children: [] }, state);
    }
    this.#add({ type: "item", task: null, offset, children: [] }, state);
    state.hasItem = true;
    return true;
  }

  #beginLeaf(line, state) {
    const isParagraph = this.#isInParagraph(state);
    let found;
    if (isParagraph && this.#beginTable(line, state)) return true;
    if ((found = line.match(HEADING))) {
      const text = headingText(line.text.slice(line.next + found[1].length));
      this.#add({ type: "heading", level: found[1].length, text }, state);
      this.#closeLeaf();
    } else if ((found = line.match(FENCE))) {
      const [, ticks, info, tildes, others] = found;
      const fence = { mark: ticks ?? tildes, indent: line.indent };
      const language = unescapeText((info ?? others).trim()).split(/\s/, 1)[0];
      this.#add({ type: "code", lines: [], end: 0, language, fence }, state);
    } else if (isParagraph && line.match(UNDERLINE)) {
      const heading = { type: "heading", level: line.char === "=" ? 1 : 2, text: this.#leaf.text };
      this.#replaceLeaf(heading);
      this.#closeLeaf();
    } else if (line.match(RULE)) {
      this.#add({ type: "rule" }, state);
      this.#closeLeaf();
    } else if ((found = line.match(MATH)) && !hasMathEnd(line.text.slice(line.next + 2), found[0])) {
      this.#add({ type: "math", text: line.text.slice(line.next), mark: found[0] }, state);
    } else {
      return false;
    }
    this.#blank = Infinity;
    return true;
  }

  /** Makes a table of a paragraph's last line, where this one has as many dashes as that has cells. */
  #beginTable(line, state) {
    if (!"|-:".includes(line.char)) return false;
    const align = alignment(line.text.slice(line.next));
    if (!align) return false;
    const { text } = this.#leaf;
    const at = text.lastIndexOf("\n") + 1;
    const header = text.slice(at);
    const head = header.includes("|") ? cellsOf(header) : [];
    if (head.length !== align.length) return false;
    const table = { type: "table", align, head, rows: [], closed: false };
    if (at > 0) {
      this.#replaceLeaf({ type: "paragraph", text: text.slice(0, at - 1) });
      this.#add(table, state);
    } else {
      this.#replaceLeaf(table);
    }
    this.#blank = Infinity;
    return true;
  }

  #isInParagraph({ isInside, isNew }) {
    return isInside && !isNew && this.#leaf?.type === "paragraph";
  }

  #takeBlank(state) {
    const isLazyEnd = state.depth < this.#open.length;
    this.#closeTo(state.depth);
    if (this.#leaf && !isLazyEnd) this.#closeLeaf();
    this.#blank = state.hasItem ? Infinity : this.#quoteDepth();
  }

  #takeText(line, state) {
    const leaf = this.#leaf;
    const text = line.text.slice(line.next);
    if (!state.isNew && leaf?.type === "paragraph") { // also where the line is not inside as it should be
      leaf.text += `\n${text}`;
    } else if (!state.isNew && state.isInside && leaf?.type === "table") {
      leaf.rows.push(cellsOf(text));
    } else {
      this.#addParagraph(text, state);
    }
    this.#blank = Infinity;
  }

  #addParagraph(text, state) {
    this.#add({ type: "paragraph", text }, state);
    const parent = this.#open.at(-1);
    const task = parent.type === "item" && parent.children.length === 1 ? TASK.exec(text) : null;
    if (!task) return;
    parent.task = task[1] !== " ";
    this.#leaf.text = text.slice(task[0].length);
  }

  /** Adds a block where a line has led to, and closes what is open beside that. */
  #add(block, state) {
    this.#closeTo(state.depth);
    if (this.#open.at(-1).type === "list" && block.type !== "item") this.#closeTo(this.#open.length - 1);
    if (this.#leaf) this.#closeLeaf();
    const parent = this.#open.at(-1);
    this.#loosen(parent);
    block.closed = false;
    parent.children.push(block);
    if (block.children) this.#open.push(block);
    else this.#leaf = block;
    state.depth = this.#open.length;
    state.isNew = true;
  }

  /** Has a list stand loosely that has a blank line between its items, or between an item's blocks. */
  #loosen(parent) {
    const depth = this.#open.length - 1;
    if (!parent.children.length || this.#blank >= depth) return;
    if (parent.type === "list") parent.loose = true;
    if (parent.type === "item") this.#open[depth - 1].loose = true;
  }

  #quoteDepth() {
    return Math.max(0, this.#open.findLastIndex(({ type }) => type === "quote"));
  }

  #replaceLeaf(block) {
    block.closed = false;
    this.#open.at(-1).children.pop();
    this.#open.at(-1).children.push(block);
    this.#leaf = block;
  }

  #closeLeaf() {
    this.#leaf.closed = !this.#mark; // a line without an end may still become another one
    this.#leaf = null;
  }

  #closeTo(depth) {
    if (depth >= this.#open.length) return;
    if (this.#leaf) this.#closeLeaf();
    for (const block of this.#open.slice(depth)) block.closed = !this.#mark;
    this.#open = this.#open.slice(0, Math.max(depth, 1));
  }
}

/** A line, and how far it has been read; tabs reach to the next column that four divides. */
class Line {
  text;
  #at = 0;
  #column = 0;
  #pad = 0; // columns that are left of a tab
  #indent = null;
  #next = 0;

  constructor(text) {
    this.text = text;
  }

  /** How many columns of white space are next. */
  get indent() {
    if (this.#indent === null) this.#look();
    return this.#indent;
  }

  /** The index of what comes after them. */
  get next() {
    if (this.#indent === null) this.#look();
    return this.#next;
  }

  get char() {
    return this.text[this.next] ?? "";
  }

  get isBlank() {
    return this.next === this.text.length;
  }

  #look() {
    let column = this.#column + this.#pad;
    let at = this.#at;
    for (; this.text[at] === " " || this.text[at] === "\t"; at += 1) column += this.#width(at, column);
    this.#indent = column - this.#column;
    this.#next = at;
  }

  #width(at, column) {
    return this.text[at] === "\t" ? 4 - (column % 4) : 1;
  }

  /** Passes as many columns of white space, or as many as there are. */
  pass(columns) {
    const wanted = Math.min(columns, this.indent);
    for (let left = wanted; left > 0; left -= 1) {
      if (!this.#pad) {
        this.#pad = this.#width(this.#at, this.#column);
        this.#at += 1;
      }
      this.#pad -= 1;
      this.#column += 1;
    }
    this.#indent = null;
  }

  #passMark(length) {
    this.pass(this.indent);
    this.#at += length;
    this.#column += length;
    this.#indent = null;
  }

  passQuote() {
    this.#passMark(1);
    this.pass(1);
  }

  /** Passes an item's marker, and returns how far to its right the item's text stands. */
  passMarker(length, isEmpty) {
    this.#passMark(length);
    const space = isEmpty || this.indent > 4 ? 1 : this.indent;
    this.pass(space);
    return length + space;
  }

  isBlankAfter(length) {
    return /[ \t]*$/y.test(this.text.slice(this.next + length));
  }

  /** Matches a sticky pattern against what comes after the white space. */
  match(pattern) {
    pattern.lastIndex = this.next;
    return pattern.exec(this.text);
  }

  /** What has not been read, with the white space before it. */
  get rest() {
    return " ".repeat(this.#pad) + this.text.slice(this.#at);
  }
}

function continues(block, line) {
  if (block.type === "list") return true;
  if (block.type === "quote") {
    const goesOn = line.indent < 4 && line.char === ">";
    if (goesOn) line.passQuote();
    return goesOn;
  }
  const isEmpty = line.isBlank && !block.children.length; // an item begins with one blank line at most
  const goesOn = !isEmpty && (line.isBlank || line.indent >= block.offset);
  if (goesOn) line.pass(block.offset);
  return goesOn;
}

// What the blocks do with their next line that take lines as they are: true where it is theirs,
// "last" where it ends them, null where they end before it.
const TAKERS = {
  code(block, line) {
    const { fence } = block;
    if (fence && endsFence(fence.mark, line)) return "last";
    if (!fence && line.indent < 4 && !line.isBlank) return null;
    line.pass(fence ? fence.indent : 4);
    const { rest } = line;
    block.lines.push(rest);
    if (fence || rest.trim()) block.end = block.lines.length; // indented code ends with its text
    return true;
  },
  math(block, line) {
    if (line.isBlank) return null;
    const text = line.text.slice(line.next);
    block.text += `\n${text}`;
    return hasMathEnd(text, block.mark) ? "last" : true;
  },
};

function endsFence(mark, line) {
  if (line.indent >= 4 || line.char !== mark[0]) return false;
  const text = line.text.slice(line.next).trimEnd();
  return text.length >= mark.length && !text.replaceAll(mark[0], "");
}

function hasMathEnd(text, mark) {
  return text.includes(mark === "$$" ? "$$" : "\\]");
}

function headingText(text) {
  const trimmed = text.trim();
  let end = trimmed.length;
  while (trimmed[end - 1] === "#") end -= 1;
  if (end === 0) return "";
  return " \t".includes(trimmed[end - 1]) ? trimmed.slice(0, end).trimEnd() : trimmed;
}

/** Returns how a table's columns are aligned by the line below its head; null where that is none. */
function alignment(text) {
  if (/^-[ \t]|[^-:| \t]/.test(text) || !/[|:]/.test(text)) return null;
  const cells = cellsOf(text);
  if (!cells.length || !cells.every((cell) => /^:?-+:?$/.test(cell))) return null;
  return cells.map((cell) => {
    const [left, right] = [cell[0] === ":", cell.at(-1) === ":"];
    if (left && right) return "center";
    return left ? "left" : right ? "right" : "";
  });
}

/** Returns the texts between a row's bars; one after a backslash is text. */
function cellsOf(row) {
  const cells = row.trim().split(/(?<!\\)\|/, MOST_CELLS + 2).map((cell) => cell.trim().replaceAll("\\|", "|"));
  if (cells[0] === "") cells.shift();
  if (cells.at(-1) === "") cells.pop();
  return cells.slice(0, MOST_CELLS);
}
