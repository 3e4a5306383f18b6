// The list of conversations at the side.

import { byId, make } from "./dom.js";
import { inWords, needsKey } from "./errors.js";

const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const STEPS = [[60, "second"], [60, "minute"], [24, "hour"], [7, "day"], [5, "week"], [12, "month"], [Infinity, "year"]];

/** Shows the list, with the open conversation marked. */
export function showSessions(sessions, current) {
  const list = byId("sessions");
  const focused = document.activeElement?.closest?.("#sessions a")?.dataset.id;
  const items = sessions.items.map((one) => itemOf(one, one.id === current));
  list.replaceChildren(...items);
  if (focused) list.querySelector(`a[data-id="${CSS.escape(focused)}"]`)?.focus();
  byId("more-sessions").hidden = sessions.isOwn || !sessions.hasMore;
  const note = noteOf(sessions);
  byId("sessions-note").textContent = note;
  byId("sessions-note").hidden = !note;
}

function itemOf({ id, title, updated_at: at }, isCurrent) {
  const link = make("a", { href: `#${id}` }, make("span", { className: "session-title", textContent: title || "Untitled" }));
  link.dataset.id = id;
  if (at) link.append(make("time", { dateTime: at, textContent: ago(at) }));
  if (isCurrent) link.setAttribute("aria-current", "page");
  return make("li", {}, link);
}

function noteOf({ items, isOwn, isKeyless, error }) {
  if (error) return needsKey(error) ? inWords(error) : `The list could not be read. ${inWords(error)}`;
  if (isKeyless) return "Give an API key to see your conversations.";
  if (isOwn && items.length) return "Only this browser lists these: without an API key, an id is all it takes to read one.";
  return items.length ? "" : "No conversations yet.";
}

function ago(at) {
  let amount = (Date.parse(at) - Date.now()) / 1000;
  if (!Number.isFinite(amount)) return "";
  if (amount > -60) return "now";
  for (const [size, unit] of STEPS) {
    if (Math.abs(amount) < size) return AGO.format(Math.round(amount), unit);
    amount /= size;
  }
  return "";
}
