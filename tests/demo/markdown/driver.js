// Runs the page's Markdown parsers: a line of JSON in, a line of JSON out.

import { createInterface } from "node:readline";
import { BlockParser } from "./markdown-blocks.js";
import { parseInline, plainText } from "./markdown-inline.js";

const inline = (text) => parseInline(text).map(nodeOf);

function nodeOf(node) {
  if (typeof node === "string") return node;
  const { type, text, url, title, children } = node;
  if (type === "break") return [type];
  if (type === "code") return [type, text];
  if (type === "image") return [type, url, title, plainText(children)];
  if (type === "link") return [type, url, title, children.map(nodeOf)];
  return [type, children.map(nodeOf)];
}

const BLOCKS = {
  paragraph: ({ text }) => inline(text),
  heading: ({ level, text }) => [level, inline(text)],
  code: ({ language, lines, end }) => [language, lines.slice(0, end).join("\n")],
  quote: ({ children }) => children.map(blockOf),
  list: ({ ordered, start, loose, children }) => [ordered, ordered ? start : null, tightness(loose, children), children.map(blockOf)],
  item: ({ task, children }) => [task, children.map(blockOf)],
  table: ({ align, head, rows }) => [align, head.map(inline), rows.map((row) => cellsOf(row, align.length))],
  rule: () => [],
  math: ({ text }) => text,
};

function blockOf(block) {
  return [block.type, BLOCKS[block.type](block)];
}

function cellsOf(row, count) {
  const cells = row.slice(0, count).map(inline);
  while (cells.length && !cells.at(-1).length) cells.pop(); // like those that the text does not have
  return cells;
}

/** Without a paragraph in one of its items nobody can see whether a list is loose. */
function tightness(loose, items) {
  const isSeen = items.some(({ children }) => children.some(({ type }) => type === "paragraph"));
  return isSeen ? loose : null;
}

/** Returns {tree, faults}: what a text is that comes in pieces, and what changed after it was closed. */
function stream(pieces) {
  const parser = new BlockParser();
  const closed = new Map(); // block -> what it was when it was closed
  const faults = [];
  let complete = [];
  for (const piece of pieces) {
    parser.push(piece);
    const { blocks } = parser;
    if (complete.some((block, at) => blocks[at] !== block)) faults.push("a complete block was replaced");
    const count = blocks.findLastIndex(({ closed }) => closed) + 1;
    if (count < complete.length) faults.push("a complete block is not complete any more");
    complete = blocks.slice(0, count);
    for (const block of all(blocks)) if (block.closed && !closed.has(block)) closed.set(block, JSON.stringify(block));
  }
  parser.end();
  const last = new Set(all(parser.blocks));
  for (const [block, was] of closed) {
    if (!last.has(block)) faults.push(`a closed block is gone: ${was}`);
    else if (JSON.stringify(block) !== was) faults.push(`a closed block has changed: ${was}`);
  }
  if ([...last].some((block) => !block.closed)) faults.push("a block is open after the end");
  return { tree: parser.blocks.map(blockOf), faults };
}

function all(blocks) {
  return blocks.flatMap((block) => [block, ...all(block.children ?? [])]);
}

/** Returns the blocks of a whole text. */
function parseBlocks(text) {
  const parser = new BlockParser();
  parser.push(text);
  parser.end();
  return parser.blocks;
}

/** Parses a text, and returns how deep what it has become is, and how much. */
function measure(text) {
  const blocks = parseBlocks(text);
  let [nodes, depth] = [0, 0];
  const walk = (node, level) => {
    nodes += 1;
    depth = Math.max(depth, level);
    for (const child of node.children ?? []) walk(child, level + 1);
    for (const inside of [node.text, node.head, node.rows].flat(2)) {
      if (typeof inside === "string" && node.closed !== undefined) parseInline(inside).forEach((child) => walk(child, level + 1));
    }
  };
  blocks.forEach((block) => walk(block, 1));
  return { nodes, depth };
}

/** Returns what is shown of a text that has not ended. */
function shown(pieces) {
  const parser = new BlockParser();
  for (const piece of pieces) parser.push(piece);
  return parser.blocks.map(blockOf);
}

/** Returns how many lines were read, whole or not, of a text that comes in pieces. */
function countLines(pieces) {
  let count = 0;
  const { replaceAll } = String.prototype;
  String.prototype.replaceAll = function counting(mark, ...rest) {
    if (mark === "\0") count += 1; // each line that is read is looked at for these
    return replaceAll.call(this, mark, ...rest);
  };
  shown(pieces);
  String.prototype.replaceAll = replaceAll;
  return count;
}

const CALLS = { parse: (text) => parseBlocks(text).map(blockOf), stream, measure, shown, countLines };

for await (const line of createInterface({ input: process.stdin })) {
  const [name, value] = JSON.parse(line);
  console.log(JSON.stringify(CALLS[name](value)));
}
