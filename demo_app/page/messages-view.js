// The open conversation's messages. What has not changed keeps its elements, and so its focus.

import { byId } from "./dom.js";
import { ConnectionLost } from "./errors.js";
import { drawAll, onDrawn } from "./markdown-view.js";
import { MessageView } from "./message-view.js";
import { Place } from "./place.js";

const STEP = 100; // messages by which more are shown
const MOST = 400; // ... that are shown at all: what is far from the reader has no elements

/**
 * Shows a conversation's messages: those around the reader, up to a number that does not grow with it.
 *
 * `on` has regenerate(), edit(place, text) and older(), which loads earlier ones.
 */
export class MessagesView {
  #list = byId("messages");
  #shown = new Map(); // a MessageView for each item's key, in their order
  #first = null; // the key of the first that is shown; null for the last STEP
  #last = null; // ... of the last one; null for all to the end
  #isWhole = false;
  #conversation = null;
  #turn = null; // the last one that was shown
  #frame = 0;
  #edited = null; // the place of the question that is being edited
  #marked = null; // ... and for which it has been marked
  #hit = null; // the place of what was looked for
  #place;
  #on;

  constructor(on) {
    this.#on = on;
    this.#place = new Place({
      earlier: () => this.#extend(-STEP), later: () => this.#extend(STEP), end: () => this.#reach(null),
    });
    onDrawn(() => this.#place.update());
  }

  /** Shows it as it is now. */
  show(conversation) {
    const { turn } = conversation;
    const isOther = this.#conversation !== conversation;
    const isAsked = turn?.isOwn && turn !== this.#turn && !isOther;
    if (isOther) {
      this.#conversation = conversation;
      for (const view of this.#shown.values()) view.leave();
      this.#shown = new Map();
      this.#first = this.#hit = null;
      this.#place.begin();
    }
    if (isOther || isAsked) this.#last = null;
    if (isAsked) this.#hit = null;
    this.#place.keep(() => this.#draw());
    if (isAsked) this.#place.ask(this.#shown.get(turn.place).element);
    this.#turn = turn;
  }

  #draw() {
    const { start, turn } = this.#conversation;
    const all = keysOf(this.#conversation);
    const [from, to] = this.#rangeOf(all);
    byId("older").hidden = !from && (!start || Boolean(turn));
    byId("later").hidden = to === all.length;
    this.#put(itemsOf(this.#conversation, from, to));
    this.#showMark();
  }

  /** Returns which of the messages are to be shown, by their keys, and remembers that. */
  #rangeOf(all) {
    if (this.#isWhole) return [0, all.length];
    let from = this.#first === null ? all.length - STEP : indexOf(all, this.#first);
    let to = this.#last === null ? all.length : indexOf(all, this.#last) + 1;
    if (from >= to) [from, to] = [all.length - STEP, all.length]; // what was there has been replaced
    if (to - from > MOST) [from, to] = this.#last === null ? [to - MOST, to] : [from, from + MOST];
    this.#first = all[from = Math.max(from, 0)] ?? null;
    this.#last = to < all.length ? all[to - 1] : null;
    return [from, to];
  }

  /** Shows more at one end, and less at the other; false where there is no more. */
  async #extend(step) {
    const conversation = this.#conversation;
    const isUp = step < 0;
    if (!isUp && this.#last === null) return false;
    if (isUp && !indexOf(keysOf(conversation), this.#first) && !(await this.#on.older())) return false;
    if (conversation !== this.#conversation) return false;
    const all = keysOf(conversation);
    const from = indexOf(all, this.#first);
    const to = this.#last === null ? all.length : indexOf(all, this.#last) + 1;
    const [first, last] = isUp ? [from + step, Math.min(to, from + step + MOST)] : [Math.max(from, to + step - MOST), to + step];
    this.#first = all[Math.max(first, 0)] ?? null;
    this.#last = all[last - 1] ?? null;
    this.#place.keep(() => this.#draw());
    return true;
  }

  /** Shows the messages around a place, or the last ones. */
  #reach(place) {
    const all = keysOf(this.#conversation);
    const at = place === null ? all.length : indexOf(all, place);
    this.#first = all[Math.max(Math.min(at - STEP / 2, all.length - STEP), 0)] ?? null;
    this.#last = all[at + STEP / 2] ?? null;
    this.#draw();
    return this.#shown.get(all[at]);
  }

  /** Goes to the message at a place, which is marked, and has the focus. */
  goTo(place) {
    this.#place.leave();
    this.#hit = place;
    const view = this.#reach(place);
    if (!view) return;
    this.#place.goTo(view.element);
    view.focus();
  }

  /** Shows all that is loaded, for the printer, or what is around the reader again. */
  showWhole(isWhole) {
    this.#isWhole = isWhole;
    this.#place.keep(() => this.#draw());
    if (isWhole) drawAll();
  }

  /** Marks the question that is being edited, and what its new answer will replace; null for none. */
  mark(place) {
    this.#edited = place;
    if (place !== null && ![...this.#shown.values()].some((view) => view.place === place)) this.#reach(place);
    this.#showMark();
    if (place === null) return;
    this.#place.leave();
    this.#list.querySelector(".edited")?.scrollIntoView({ block: "nearest" });
  }

  /** Shows what has been added to the answer under way, at the next frame. */
  grow() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => {
      if (this.#last !== null) return; // it is far away
      const answer = this.#conversation.turn && answerOf(this.#conversation.turn);
      if (answer && this.#shown.get(answer.key)?.update(answer)) this.#place.update();
      else this.show(this.#conversation);
    });
  }

  #showMark() {
    const edited = this.#edited;
    if (edited === null && this.#marked === null) return;
    this.#marked = edited;
    for (const { element, place } of this.#shown.values()) {
      element.classList.toggle("edited", edited !== null && place === edited);
      element.classList.toggle("replaced", edited !== null && place > edited);
    }
  }

  /** Shows these items, by the elements that are there already where those can show them. */
  #put(items) {
    const before = this.#shown;
    this.#shown = new Map();
    // From the last one on, since not all may be drawn in this task.
    const views = items.toReversed().map((item) => {
      const known = before.get(item.key);
      const stays = known?.update(item);
      if (stays) before.delete(item.key);
      const view = stays ? known : new MessageView(item, this.#on);
      view.element.classList.toggle("hit", item.key === this.#hit);
      return view;
    }).reverse();
    items.forEach(({ key }, at) => this.#shown.set(key, views[at]));
    for (const view of before.values()) {
      if (view.element.contains(document.activeElement)) byId("talk").focus({ preventScroll: true });
      view.leave();
    }
    let next = this.#list.firstChild;
    for (const { element } of this.#shown.values()) {
      if (element === next) next = next.nextSibling;
      else this.#list.insertBefore(element, next);
    }
  }
}

/** Returns the keys of all items, in their order: their places, also those that they will have once they are stored. */
function keysOf({ shown, places, turn }) {
  const keys = places.slice(0, shown.length);
  if (!turn) return keys;
  const { place, question } = turn;
  const answer = answerOf(turn);
  return [...keys, ...question.map((_, at) => place + at), ...(answer.isBusy || answer.text ? [answer.key] : [])];
}

/** Returns the index of the first of the keys that is not before this one. */
function indexOf(keys, key) {
  let [from, to] = [0, keys.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (keys[middle] < key) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Returns what is to be shown from one index to another. */
function itemsOf({ shown, places, times, turn }, from, to) {
  const messages = turn ? [...shown, ...turn.question] : shown;
  const last = messages.findLastIndex((message) => message.role === "user");
  const items = messages.slice(from, to).map((message, index) => {
    const at = from + index;
    return {
      key: at < shown.length ? places[at] : turn.place + at - shown.length,
      role: message.role,
      place: at < shown.length ? places[at] : Infinity, // what is asked now comes after all that is stored
      text: textOf(message),
      time: at < shown.length ? times[at] : null,
      mark: markOf(message, at === messages.length - 1, turn),
      canEdit: !turn && message.role === "user" && typeof message.content === "string",
      canRegenerate: !turn && last >= 0 && at === messages.length - 1,
      isBusy: false,
      isOpen: false,
    };
  });
  const answer = turn && to > messages.length ? answerOf(turn) : null;
  return answer ? [...items, answer] : items;
}

function markOf({ role, status }, isLast, turn) {
  if (status === "incomplete") return "This answer stopped before its end.";
  const isOpen = !turn || (!turn.text && ["failed", "waiting"].includes(turn.phase));
  return isLast && role === "user" && isOpen ? "This question has no answer yet." : "";
}

function answerOf({ text, phase, error, place, question }) {
  const isBusy = phase === "asking" || phase === "answering";
  const broken = error instanceof ConnectionLost ? "The connection was lost here." : "It broke off here.";
  const mark = phase === "stopping" ? "Stopping…" : broken;
  return {
    key: place + question.length, role: "assistant", place: Infinity, text, mark: !isBusy && text ? mark : "",
    canEdit: false, canRegenerate: false, isBusy, isOpen: true,
  };
}

/**
 * Returns a message's text, whether its content is a string, a list of parts, or calls of tools.
 *
 * Clients may have stored anything there, and the rest of the conversation is shown all the same.
 */
export function textOf(message) {
  if (!texts.has(message)) texts.set(message, textIn(message));
  return texts.get(message);
}

const texts = new WeakMap(); // of messages, which do not change

function textIn({ content, tool_calls: calls }) {
  const parts = Array.isArray(content) ? content.map((part) => part?.text ?? kindOf(part)) : [content];
  const called = Array.isArray(calls) ? calls.map(nameOf) : [];
  return [...parts, ...called].filter((part) => typeof part === "string" && part).join("\n\n");
}

function kindOf(part) {
  return typeof part?.type === "string" ? `[${part.type}]` : "";
}

function nameOf(call) {
  const name = call?.function?.name;
  return `[calls ${typeof name === "string" && name ? name : "a tool"}]`;
}
