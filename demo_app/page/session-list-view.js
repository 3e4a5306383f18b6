// The list of conversations at the side.

import { groupsOf } from "./days.js";
import { byId, icon, make } from "./dom.js";
import { needsKey } from "./errors.js";
import { titleOf } from "./session-list.js";
import { inWords } from "./words.js";

const WHEN = { dateStyle: "medium", timeStyle: "short" };

let rows = new Map(); // by id: {sign, element}; what has not changed keeps its elements, and so its focus

/** Shows the list, with the open conversation marked, and those whose ids are in `answered`. */
export function showSessions(sessions, current, answered) {
  const shown = sessions.shown;
  const before = rows;
  const focused = document.activeElement?.closest?.("#sessions li");
  const isMenu = document.activeElement?.matches?.("button");
  rows = new Map();
  for (const one of shown) {
    const source = one.parent_id ? nameOf(sessions, one.parent_id) : null;
    const state = { source, isCurrent: one.id === current, isAnswered: answered.has(one.id) };
    const sign = JSON.stringify([one, state]);
    const kept = before.get(one.id);
    rows.set(one.id, kept?.sign === sign ? kept : { sign, element: rowOf(one, state) });
  }
  showGroups(groupsOf(shown, new Date()));
  if (focused && !focused.isConnected) buttonOf(focused.dataset.id, isMenu ? "button" : "a")?.focus();
  byId("more-sessions").hidden = sessions.isOwn || !sessions.hasMore || Boolean(sessions.query);
  showHits(sessions.hits);
  const note = noteOf(sessions, shown);
  byId("sessions-note").textContent = note;
  byId("sessions-note").hidden = !note;
  byId("archived").hidden = !sessions.mayHaveArchived;
  byId("archived").setAttribute("aria-pressed", String(sessions.showsArchived));
}

/** Returns the button of a conversation's menu, or its link. */
export function buttonOf(id, kind = "button") {
  return byId("sessions").querySelector(`li[data-id="${CSS.escape(id)}"] ${kind}`);
}

function showGroups(groups) {
  const list = byId("sessions");
  const wanted = groups.map(({ label, items }) => {
    const known = [...list.children].find((group) => group.firstChild.textContent === label);
    const group = known ?? make("li", { className: "group" }, make("h2", { textContent: label }), make("ul"));
    update(group.lastChild, items.map(({ id }) => rows.get(id).element));
    return group;
  });
  update(list, wanted);
}

/** Shows the messages that a search has found, below the titles. */
function showHits(hits) {
  byId("found").hidden = !hits.length;
  const sign = JSON.stringify(hits);
  if (byId("hits").dataset.sign === sign) return;
  byId("hits").dataset.sign = sign;
  byId("hits").replaceChildren(...hits.map(({ session_id: id, index, title, snippet }) => {
    const pieces = snippet.map(({ text, found }) => (found ? make("mark", { textContent: text }) : text));
    const name = make("span", { className: "session-title", dir: "auto", textContent: titleOf({ title }) });
    return make("li", {}, make("a", { href: `#${id}@${index}` }, name, make("span", { className: "snippet", dir: "auto" }, ...pieces)));
  }));
}

/** Gives an element these children; those that it has, in this order, are not touched. */
function update(element, children) {
  if (element.childNodes.length === children.length && children.every((child, at) => child === element.childNodes[at])) return;
  const focused = document.activeElement;
  element.replaceChildren(...children);
  if (focused !== document.activeElement && element.contains(focused)) focused.focus();
}

function rowOf(one, { source, isCurrent, isAnswered }) {
  const title = titleOf(one);
  const link = make("a", { href: `#${one.id}`, title: tipOf(one, title, source) });
  if (one.parent_id) link.append(icon("fork"));
  link.append(make("span", { className: "session-title", dir: "auto", textContent: title }));
  if (one.parent_id) link.append(make("span", { className: "sr", textContent: `, ${forkOf(source)}` }));
  if (isAnswered) {
    link.append(make("span", { className: "answering" }), make("span", { className: "sr", textContent: ", being answered" }));
  }
  if (isCurrent) link.setAttribute("aria-current", "page");
  const button = make("button", {
    type: "button", className: "icon small", "aria-label": `Options of “${title}”`,
    "aria-haspopup": "menu", "aria-expanded": "false",
  }, icon("more"));
  const row = make("li", { className: "session" }, link, button);
  row.dataset.id = one.id;
  return row;
}

/** Returns the whole title, where it comes from, and when it was changed. */
function tipOf({ updated_at: at }, title, source) {
  const changed = at && Number.isFinite(Date.parse(at)) ? new Date(at).toLocaleString(undefined, WHEN) : "";
  return [title, source === null ? "" : forkOf(source), changed].filter(Boolean).join("\n");
}

function forkOf(source) {
  return source ? `forked from “${source}”` : "a fork";
}

function nameOf(sessions, id) {
  const known = sessions.find(id);
  return known ? titleOf(known) : "";
}

function noteOf({ items, isOwn, isKeyless, error, query, hits, showsArchived }, shown) {
  if (error) return needsKey(error) ? inWords(error) : `The list could not be read. ${inWords(error)}`;
  if (isKeyless) return "Give an API key to see your conversations.";
  if (query && !shown.length) return hits.length ? "" : "Nothing has these words.";
  if (showsArchived) return shown.length ? "" : "Nothing is archived.";
  if (isOwn && items.length) return "This browser alone keeps this list. With an API key the server keeps one for you.";
  return shown.length ? "" : "No conversations yet.";
}
