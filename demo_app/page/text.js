// A message's text as paragraphs, lists and code. It is made of text nodes alone: whatever a
// message holds is shown as it was written.

import { make } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const BULLET = /^ {0,3}[-*•] +(.*)$/;
const INLINE = /(?<!`)(`+)(?!`)([^`]+)\1(?!`)|\*\*(?=\S)([^*]+?\S?)\*\*/g;

/** Returns the nodes that show a text. */
export function render(text) {
  const nodes = [];
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  for (let at = 0; at < lines.length; ) {
    const fence = FENCE.exec(lines[at]);
    if (fence) {
      const end = endOfFence(lines, at + 1, fence[1]);
      nodes.push(codeBlock(lines.slice(at + 1, end).join("\n"), fence[2].trim()));
      at = end + 1;
    } else if (!lines[at].trim()) {
      at += 1;
    } else {
      const bullets = BULLET.test(lines[at]);
      const start = at;
      while (at < lines.length && goesOn(lines[at], bullets)) at += 1;
      nodes.push(bullets ? list(lines.slice(start, at)) : paragraph(lines.slice(start, at)));
    }
  }
  return nodes;
}

function goesOn(line, bullets) {
  return line.trim() && !FENCE.test(line) && BULLET.test(line) === bullets;
}

function endOfFence(lines, from, opening) {
  const closes = (line) =>
    line.trim().length >= opening.length && !line.trim().replaceAll(opening[0], "");
  let end = from;
  while (end < lines.length && !closes(lines[end])) end += 1;
  return end; // while it streams the end is not there yet
}

function codeBlock(code, language) {
  const block = make("pre", { tabIndex: 0 }, make("code", { textContent: code }));
  block.setAttribute("role", "group");
  block.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  return block;
}

function list(lines) {
  const items = lines.map((line) => make("li", {}, inline(BULLET.exec(line)[1])));
  return make("ul", {}, items);
}

function paragraph(lines) {
  return make("p", {}, inline(lines.join("\n")));
}

function inline(text) {
  const nodes = [];
  let last = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > last) nodes.push(text.slice(last, found.index));
    const [, , code, strong] = found;
    nodes.push(make(code === undefined ? "strong" : "code", { textContent: code ?? strong }));
    last = found.index + found[0].length;
  }
  nodes.push(text.slice(last));
  return nodes;
}
