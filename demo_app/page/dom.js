// Small helpers for the document. Text goes in as text, and nothing is ever parsed as HTML.

/** Returns the element of this id. */
export const byId = (id) => document.getElementById(id);

/** Returns a new element with properties, attributes (names with "-" and "role") and children, or lists of them. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  fill(element, children.flat());
  return element;
}

/** Puts nodes at an element's end: one by one, since a call takes only so many arguments. */
export function fill(element, nodes) {
  for (const node of nodes) element.append(node);
}

/** Returns one of the icons at the end of index.html. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Loads a style sheet that the page does without at first. */
export function loadStyle(name) {
  return new Promise((onload, onerror) => {
    document.head.append(make("link", { rel: "stylesheet", href: name, onload, onerror }));
  });
}

/** Has screen readers say a text, without moving anything. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Copies a text; false where the browser does not let us. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // plain http, away from this machine, has no clipboard API
  }
}

function copyBySelection(text) {
  const area = make("textarea", { value: text, className: "sr" });
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
