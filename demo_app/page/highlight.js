// Colours for code, loaded with the first block that has a language.
//
// The browser paints ranges of a text (the CSS Custom Highlight API): no element is added, so that what
// is drawn, selected and copied stays as it is. Only code near the window is read. It is told by marks that
// languages have in common, not by their grammars.

import { loadStyle } from "./dom.js";

const KINDS = ["comment", "string", "number", "keyword", "name", "added", "removed"];
const WORDS = new Set(`abstract alias and as assert async await auto base begin bool boolean break byte case catch chan
  char class const constexpr continue crate debugger declare def default defer del delete do double dyn elif else elsif end
  ensure enum esac except explicit export extends extern false False fi final finally float fn for foreach friend from fun
  func function get global go goto if impl implements import in include inline instanceof int interface internal is
  lambda let local long loop match mod module move mut namespace native new nil None nonlocal not null nullptr object of
  operator or override package pass private protected public pub raise readonly ref register require rescue return
  sealed select self set short signed sizeof static struct super switch synchronized template then this throw throws
  trait True true try type typedef typename typeof undef undefined union unless unsafe unsigned until use using val var
  virtual void volatile when where while with yield`.split(/\s+/));
const SQL = new Set(`add all alter and any as asc begin between by case cast check column commit constraint create cross
  database default delete desc distinct drop else end except exists false foreign from full function grant group having
  if in index inner insert intersect into is join key left like limit not null offset on or order outer over partition
  primary references returning right rollback select set table then transaction true union unique update using values
  view when where window with`.split(/\s+/));

const QUOTED = String.raw`"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?`;
const NUMBER = String.raw`\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)\w*`;
const WORD = String.raw`[A-Za-z_$][\w$]*`;

/** Makes the pattern of languages with these comments and, beside quoted ones, these strings. */
function patternOf(comment, string = "") {
  const strings = [string, QUOTED].filter(Boolean).join("|");
  return new RegExp(`(?<comment>${comment})|(?<string>${strings})|(?<number>${NUMBER})|(?<word>${WORD})`, "g");
}

const LIKE_C = patternOf(String.raw`\/\/.*|\/\*[^]*?(?:\*\/|$)`, "`(?:\\\\[^]|[^`\\\\])*`?");
const LIKE_PYTHON = patternOf("#.*", String.raw`"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)`);
const LIKE_SHELL = patternOf(String.raw`(?<=^|\s)#.*`);
const LIKE_SQL = patternOf(String.raw`--.*|\/\*[^]*?(?:\*\/|$)`);
const LIKE_YAML = /(?<comment>(?<=^|\s)#.*)|(?<name>^[ \t-]{0,80}[\w.$/-]{1,80}(?=[ \t]{0,9}[:=](?:\s|$))|^[ \t]*\[.*\])|(?<string>"(?:\\.|[^"\\\n])*"?|'[^'\n]*'?)|(?<number>\b\d[\d.]*\b)|(?<keyword>\b(?:true|false|null|yes|no)\b)/gm;
const LIKE_JSON = /(?<name>"(?:\\.|[^"\\\n])*"(?=\s*:))|(?<string>"(?:\\.|[^"\\\n])*"?)|(?<comment>\/\/.*)|(?<number>-?\b\d[\d.eE+-]*)|(?<keyword>\b(?:true|false|null)\b)/g;
const LIKE_HTML = /(?<comment><!--[^]*?(?:-->|$))|(?<keyword><\/?[\w:-]+|\/?>)|(?<string>(?<==)"[^"]*"?|(?<==)'[^']*'?)|(?<name>(?<![\w:@-])[\w:@-]{1,80}(?==))/g;
const LIKE_CSS = /(?<comment>\/\*[^]*?(?:\*\/|$))|(?<string>"[^"\n]*"?|'[^'\n]*'?)|(?<name>(?<![\w-])[\w-]{1,80}(?=:[^;{}\n]{0,200}[;\n}]))|(?<keyword>@[\w-]+)|(?<number>#[\da-f]{3,8}\b|-?\b\d[\d.]*(?:[a-z]+|%)?)/gi;
const DIFF = /(?<comment>^(?:diff|index|@@|\+\+\+|---).*)|(?<added>^\+.*)|(?<removed>^-.*)/gm;

const PATTERNS = { __proto__: null };
for (const [names, pattern] of [
  ["c c++ cpp cs csharp dart go golang h hpp java javascript js jsx kotlin kt mjs php proto rs rust scala swift ts tsx typescript zig", LIKE_C],
  ["elixir ex jl julia py py3 pycon python python3 r rb ruby", LIKE_PYTHON],
  ["bash console dockerfile fish ksh make makefile perl pl powershell ps1 sh shell zsh", LIKE_SHELL],
  ["haskell hs lua mysql postgres postgresql plsql sql sqlite", LIKE_SQL],
  ["conf env ini properties toml yaml yml", LIKE_YAML], ["json json5 jsonc jsonl ndjson", LIKE_JSON],
  ["html svelte svg vue xhtml xml", LIKE_HTML], ["css less scss", LIKE_CSS], ["diff patch", DIFF],
]) for (const name of names.split(" ")) PATTERNS[name] = pattern;

/** Yields {kind, start, end} for what is to be coloured in a text; nothing where the language is not known. */
export function* tokensOf(text, language) {
  const pattern = PATTERNS[language.toLowerCase()];
  if (!pattern) return;
  for (const { groups, index: start, 0: { length } } of text.matchAll(pattern)) {
    const kind = groups.word === undefined ? KINDS.find((name) => groups[name] !== undefined) : kindOf(groups.word, pattern, text[start + length]);
    if (kind && length) yield { kind, start, end: start + length };
  }
}

function kindOf(word, pattern, next) {
  if (pattern === LIKE_SQL ? SQL.has(word.toLowerCase()) : WORDS.has(word)) return "keyword";
  return next === "(" ? "name" : "";
}

const LONGEST = 30_000; // characters; a longer block has no colours, which would take too long at once

const highlights = new Map(); // by kind
const painted = new Map(); // the code elements near the window: their ranges, [kind, range]
const languages = new WeakMap();
let observer = null;

/** Has a code element coloured, as it is now, while it is near the window. */
export function colour(element, language) {
  if (!PATTERNS[language.toLowerCase()] || !globalThis.CSS?.highlights) return;
  if (!observer) loadStyle("highlight.css").catch(() => {});
  observer ??= new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) (isIntersecting ? paint : clear)(target);
  }, { rootMargin: "400px" });
  const isKnown = languages.has(element);
  languages.set(element, language);
  if (!isKnown) observer.observe(element);
  else if (painted.has(element)) paint(element);
}

function paint(element) {
  clear(element);
  const ranges = [];
  painted.set(element, ranges);
  if (element.textContent.length > LONGEST) return;
  const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    for (const { kind, start, end } of tokensOf(node.data, languages.get(element))) {
      const range = new StaticRange({ startContainer: node, startOffset: start, endContainer: node, endOffset: end });
      ranges.push([kind, range]);
      highlightOf(kind).add(range);
    }
  }
}

function clear(element) {
  for (const [kind, range] of painted.get(element) ?? []) highlightOf(kind).delete(range);
  painted.delete(element);
}

function highlightOf(kind) {
  if (!highlights.has(kind)) {
    highlights.set(kind, new Highlight());
    CSS.highlights.set(`code-${kind}`, highlights.get(kind));
  }
  return highlights.get(kind);
}
