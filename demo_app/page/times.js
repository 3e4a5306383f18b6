// When something was said, in the reader's own language and calendar.

import { make } from "./dom.js";

const DAY = { weekday: "short" };
const DATE = { day: "numeric", month: "short" };
const YEAR = { ...DATE, year: "numeric" };

/** Returns a time element for an ISO time, whose title has all of it; null for none. */
export function timeOf(iso, now = new Date()) {
  const at = new Date(iso ?? NaN);
  if (Number.isNaN(at.getTime())) return null;
  const whole = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "short" });
  return make("time", { dateTime: iso, title: whole, textContent: shortOf(at, now) });
}

/** Returns a time as short as it is clear: the clock today, and the day before that. */
export function shortOf(at, now, locale = undefined) {
  const clock = at.toLocaleTimeString(locale, { timeStyle: "short" });
  if (at.toDateString() === now.toDateString()) return clock;
  const days = (now - at) / 86_400_000;
  const date = at.getFullYear() === now.getFullYear() ? DATE : YEAR;
  return `${at.toLocaleDateString(locale, days >= 0 && days < 6 ? DAY : date)}, ${clock}`;
}
