// Which heading of the list a conversation stands below: by days of the local calendar.

const DAY = 86_400_000;

/**
 * Returns [{label, items}], in the items' order, for items with `updated_at` (an ISO time) and `pinned`.
 *
 * `now` is a Date. What was changed when is told by the calendar's days, and not by hours, of which
 * some days have 23 and some 25; what has no time, or one to come, is of today.
 */
export function groupsOf(items, now, locale = undefined) {
  const groups = new Map();
  for (const pinned of [true, false]) {
    for (const item of items) {
      if (Boolean(item.pinned) !== pinned) continue;
      const label = pinned ? "Pinned" : labelOf(item.updated_at, now, locale);
      if (!groups.has(label)) groups.set(label, { label, items: [] });
      groups.get(label).items.push(item);
    }
  }
  return [...groups.values()];
}

/** Returns the heading for a time: "Today", ..., "October", "2024". */
export function labelOf(time, now, locale = undefined) {
  const at = new Date(time ?? NaN);
  const days = dayOf(now) - dayOf(at);
  if (!(days >= 1)) return "Today";
  if (days === 1) return "Yesterday";
  if (days <= 7) return "Previous 7 days";
  if (days <= 30) return "Previous 30 days";
  if (at.getFullYear() !== now.getFullYear()) return String(at.getFullYear());
  return at.toLocaleDateString(locale, { month: "long" });
}

/** Returns the number of a time's day in the local calendar; NaN for no time. */
function dayOf(at) {
  return Math.round(Date.UTC(at.getFullYear(), at.getMonth(), at.getDate()) / DAY);
}
