// The open conversation's messages. What has not changed keeps its elements, and so its focus.

import { byId, copy, fill, icon, make } from "./dom.js";
import { ConnectionLost } from "./errors.js";
import { render } from "./text.js";

const NAMES = { __proto__: null, user: "You", assistant: "Assistant", tool: "Tool", system: "System" };

/** Shows a conversation's messages; `on` has regenerate() and edit(place, text). */
export class MessagesView {
  #list = byId("messages");
  #talk = byId("talk");
  #shown = []; // {sign, element, place} for each item
  #conversation = null;
  #frame = 0;
  #follows = true; // the reader is at the end, and stays there
  #edited = null; // the place of the question that is being edited
  #height = 0; // of the window that the messages are seen through, when it was last looked at
  #on;

  constructor(on) {
    this.#on = on;
    this.#talk.addEventListener("scroll", () => this.#scrolled());
    byId("newest").addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.#follow()).observe(this.#talk);
  }

  /** Shows all of it. */
  show(conversation) {
    if (this.#conversation !== conversation) {
      this.#conversation = conversation;
      this.#shown = [];
      this.#list.replaceChildren();
      this.#follows = true;
    }
    const wanted = itemsOf(conversation);
    if (!wanted.length) this.#talk.scrollTop = 0;
    wanted.forEach((item, at) => this.#put(item, at));
    for (const { element } of this.#shown.splice(wanted.length)) element.remove();
    this.#showMark();
    this.#follow();
  }

  /** Marks the question that is being edited, and what its new answer will replace; null for none. */
  mark(place) {
    this.#edited = place;
    this.#showMark();
    if (place === null) return;
    this.#follows = false;
    this.#list.querySelector(".edited")?.scrollIntoView({ block: "nearest" });
  }

  /** Shows what has been added to the answer under way, at the next frame. */
  grow() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => {
      const body = this.#list.querySelector("[aria-busy=true] .body");
      const text = this.#conversation.turn?.text;
      if (body && text) {
        body.replaceChildren();
        fill(body, render(text));
      }
      this.#follow();
    });
  }

  /** Goes to the newest message. */
  toEnd() {
    this.#follows = true;
    this.#follow();
  }

  #showMark() {
    const edited = this.#edited;
    for (const { element, place } of this.#shown) {
      element.classList.toggle("edited", edited !== null && place === edited);
      element.classList.toggle("replaced", edited !== null && place > edited);
    }
  }

  #put(item, at) {
    const sign = JSON.stringify(item);
    const shown = this.#shown[at];
    if (shown?.sign === sign) return;
    const element = this.#make(item);
    if (shown) shown.element.replaceWith(element);
    else this.#list.append(element);
    this.#shown[at] = { sign, element, place: item.place };
  }

  #make(item) {
    const name = NAMES[item.role] ?? item.role;
    const body = make("div", { className: "body" });
    if (item.text) fill(body, render(item.text));
    else if (item.busy) body.append(typing());
    const article = make("article", { "aria-label": name }, make("h2", { className: "who", textContent: name }), body);
    if (item.busy) article.setAttribute("aria-busy", "true");
    if (item.mark) article.append(this.#mark(item));
    if (!item.busy) article.append(this.#tools(item));
    return make("li", { className: `message ${item.role}` }, article);
  }

  /** Says that an answer is missing, or its end, and offers another attempt where there can be one. */
  #mark({ mark, canRegenerate }) {
    const line = make("p", { className: "mark", textContent: mark });
    if (!canRegenerate) return line;
    const button = make("button", { type: "button", className: "small", textContent: "Try again" });
    button.addEventListener("click", () => this.#on.regenerate());
    return make("div", { className: "marked" }, line, button);
  }

  #tools(item) {
    const tools = make("div", { className: "tools" });
    const add = (label, name, act) => {
      const button = make("button", { type: "button", className: "icon small", "aria-label": label, title: label });
      button.append(icon(name));
      button.addEventListener("click", () => act(button));
      tools.append(button);
    };
    if (item.text) add("Copy the text", "copy", (button) => copyText(button, item.text));
    if (item.canEdit) add("Edit the question", "edit", () => this.#on.edit(item.place, item.text));
    if (item.canRegenerate && !item.mark) add("Regenerate the answer", "again", () => this.#on.regenerate());
    return tools;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#talk;
    // Where a notice has taken some of the room, it was not the reader who left the end.
    if (clientHeight === this.#height) this.#follows = scrollHeight - scrollTop - clientHeight < 48;
    if (!this.#shown.length) this.#follows = true;
    byId("newest").hidden = this.#follows;
  }

  #follow() {
    // What stands there without messages is read from its beginning.
    if (this.#follows && this.#shown.length) this.#talk.scrollTop = this.#talk.scrollHeight;
    this.#height = this.#talk.clientHeight;
    this.#scrolled();
  }
}

function itemsOf({ shown, places, turn }) {
  const messages = turn ? [...shown, ...turn.question] : shown;
  const last = messages.findLastIndex((message) => message.role === "user");
  const items = messages.map((message, at) => ({
    role: message.role,
    place: at < shown.length ? places[at] : Infinity, // what is asked now comes after all that is stored
    text: textOf(message),
    mark: markOf(message, !turn && at === messages.length - 1),
    canEdit: !turn && message.role === "user" && typeof message.content === "string",
    canRegenerate: !turn && last >= 0 && at === messages.length - 1,
  }));
  const answer = turn && answerOf(turn);
  if (answer?.busy || answer?.text) items.push(answer);
  return items;
}

function markOf({ role, status }, isLast) {
  if (status === "incomplete") return "This answer stopped before its end.";
  return isLast && role === "user" ? "This question has no answer yet." : "";
}

function answerOf({ text, phase, error }) {
  const busy = phase === "asking" || phase === "answering";
  const broken = error instanceof ConnectionLost ? "The connection was lost here." : "It broke off here.";
  const mark = phase === "stopping" ? "Stopping…" : broken;
  return { role: "assistant", busy, text, mark: !busy && text ? mark : "" };
}

/**
 * Returns a message's text, whether its content is a string, a list of parts, or calls of tools.
 *
 * Clients may have stored anything there, and the rest of the conversation is shown all the same.
 */
export function textOf({ content, tool_calls: calls }) {
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

function typing() {
  const dots = make("span", { className: "typing" }, make("i"), make("i"), make("i"));
  dots.append(make("span", { className: "sr", textContent: "The answer is on its way" }));
  return dots;
}

async function copyText(button, text) {
  const done = await copy(text);
  button.replaceChildren(icon(done ? "check" : "copy"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1500);
}
