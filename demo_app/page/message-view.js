// One message on the page. What it shows changes in place wherever that can be, so that focus and
// selections stay where they are.

import { copy, icon, make } from "./dom.js";
import { MarkdownView } from "./markdown-view.js";
import { timeOf } from "./times.js";

const NAMES = { __proto__: null, user: "You", assistant: "Assistant", tool: "Tool", system: "System" };
const FLAGS = ["mark", "canEdit", "canRegenerate", "isBusy"];

/**
 * Shows an item: {key, role, place, text, time, mark, canEdit, canRegenerate, isBusy, isOpen}.
 *
 * The assistant's text is Markdown, and all others' are shown as they were written. An open text may
 * go on. `on` has regenerate() and edit(place, text).
 */
export class MessageView {
  element;
  #item = null;
  #on;
  #article;
  #body = make("div", { className: "body" });
  #foot = make("div", { className: "foot" });
  #text;
  #typing = null;

  constructor(item, on) {
    this.#on = on;
    const name = NAMES[item.role] ?? item.role;
    const who = make("h2", { className: "who", textContent: name });
    this.#article = make("article", { "aria-label": name }, who, this.#body, this.#foot);
    this.element = make("li", { className: `message ${item.role}` }, this.#article);
    this.#text = new MarkdownView(this.#body, { isTyped: item.role !== "assistant" });
    this.update(item);
  }

  get place() {
    return this.#item.place;
  }

  /** Has no more to do with the page. */
  leave() {
    this.#text.leave();
    this.element.remove();
  }

  focus() {
    this.#article.tabIndex = -1;
    this.#article.focus({ preventScroll: true });
  }

  /** Shows another item; false where it takes another element. */
  update(item) {
    const before = this.#item;
    if (before && (before.role !== item.role || !this.#text.canShow(textIn(item)))) return false;
    this.#item = item;
    this.#showText(item);
    if (!before || FLAGS.some((name) => before[name] !== item[name]) || !before.text !== !item.text) this.#showRest(item);
    else if (before.time !== item.time) this.#showTime(item);
    return true;
  }

  #showText(item) {
    const waits = item.isBusy && !item.text;
    if (!waits) this.#typing?.remove();
    if (item.isOpen) this.#text.grow(item.text);
    else this.#text.end(textIn(item));
    if (waits && !this.#typing) this.#body.append(this.#typing = typing());
  }

  #showRest(item) {
    if (item.isBusy) this.#article.setAttribute("aria-busy", "true");
    else this.#article.removeAttribute("aria-busy");
    this.#foot.replaceChildren();
    if (item.mark) this.#foot.append(this.#mark(item));
    if (!item.isBusy) this.#foot.append(this.#tools(item));
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
      const button = make("button", { type: "button", className: "icon small", "aria-label": label, title: label }, icon(name));
      button.addEventListener("click", () => act(button));
      tools.append(button);
    };
    if (item.text) add("Copy the text", "copy", (button) => copyText(button, this.#item.text));
    if (item.canEdit) add("Edit the question", "edit", () => this.#on.edit(this.#item.place, this.#item.text));
    if (item.canRegenerate && !item.mark) add("Regenerate the answer", "again", () => this.#on.regenerate());
    tools.append(timeOf(item.time) ?? "");
    return tools;
  }

  /** Shows another time beside the buttons, of which one may have the focus. */
  #showTime({ time }) {
    const tools = this.#foot.querySelector(".tools");
    tools?.querySelector("time")?.remove();
    tools?.append(timeOf(time) ?? "");
  }
}

/** Returns the text that is shown: without the line ends after what was typed. */
function textIn({ role, text }) {
  return role === "assistant" ? text : text.trimEnd();
}

function typing() {
  const dots = make("span", { className: "typing" }, make("i"), make("i"), make("i"));
  dots.append(make("span", { className: "sr", textContent: "The answer is on its way" }));
  return dots;
}

/** Copies a text, and has its button show that. */
async function copyText(button, text) {
  const done = await copy(text);
  button.replaceChildren(icon(done ? "check" : "copy"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1500);
}
