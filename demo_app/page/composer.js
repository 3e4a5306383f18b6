// The box that messages are written in. What is not sent is kept for each conversation.

import { byId } from "./dom.js";

/**
 * Calls `on.send(text, place)`, with a place where an earlier question is edited, `on.stop()`, and
 * `on.mark(place)` with the place of what is being edited, or null; and `on.editLast()`.
 */
export class Composer {
  #field = byId("text");
  #place = null;
  #drafts = null;
  #of = null;
  #on;

  constructor(on) {
    this.#on = on;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    byId("stop").addEventListener("click", () => on.stop());
    byId("cancel-edit").addEventListener("click", () => this.endEdit());
    byId("skip").addEventListener("click", (event) => {
      event.preventDefault(); // the address is the conversation's
      this.#field.focus();
    });
    this.#field.addEventListener("keydown", (event) => {
      // While an input method composes a word, Enter is its own.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      } else if (event.key === "ArrowUp" && !this.#field.value && !hasModifier(event)) {
        event.preventDefault();
        on.editLast();
      }
    });
    this.#field.addEventListener("input", () => {
      this.#changed();
      if (this.#place === null) this.#drafts.note(nameOf(this.#of), this.#field.value);
    });
    this.#changed();
  }

  get isEditing() {
    return this.#place !== null;
  }

  /** Keeps what is written in `drafts`. */
  keepIn(drafts) {
    this.#drafts?.flush();
    this.#drafts = drafts;
  }

  /** Forgets what was written to a conversation that is gone. */
  forget(id) {
    this.#drafts.set(id, "");
  }

  /** Has the box focused; where that would bring up a keyboard on the screen, the messages. */
  focus() {
    const hasKeys = !matchMedia("(pointer: coarse)").matches;
    (hasKeys ? this.#field : byId("talk")).focus({ preventScroll: true });
  }

  /** Shows another conversation's draft. */
  turnTo(conversation) {
    const before = this.#of;
    this.#of = conversation;
    if (before && before.id === conversation.id) return; // the same one, with other settings
    if (before && this.#place === null) this.#keep(before, this.#field.value);
    this.#editAt(null);
    this.#set(this.#drafts.get(nameOf(conversation)));
  }

  /** Puts a question back that was not answered, before what was written since in its conversation. */
  restore(conversation, text) {
    const isInBox = conversation.id === this.#of.id && this.#place === null;
    const since = (isInBox ? this.#field.value : this.#drafts.get(nameOf(conversation))).trim();
    const all = since && since !== text ? `${text}\n\n${since}` : text;
    if (isInBox) this.#set(all);
    this.#keep(conversation, all);
  }

  /** Has an earlier question edited. */
  edit(place, text) {
    if (this.#place === null) this.#keep(this.#of, this.#field.value);
    this.#set(text);
    this.#editAt(place);
    this.#field.focus();
  }

  /** Says whether an answer is under way, which can be stopped, and which nothing is asked beside. */
  setBusy(busy) {
    const hadFocus = document.activeElement === byId(busy ? "send" : "stop");
    byId("send").hidden = busy;
    byId("stop").hidden = !busy;
    if (hadFocus) this.focus();
    this.#changed();
  }

  #send() {
    const text = this.#field.value.trim();
    if (!text || !byId("stop").hidden) return;
    const place = this.#place;
    this.#editAt(null);
    if (place === null) this.#keep(this.#of, "");
    this.#set(this.#drafts.get(nameOf(this.#of)));
    this.#on.send(text, place);
  }

  #editAt(place) {
    this.#place = place;
    byId("editing").hidden = place === null;
    this.#on.mark(place);
  }

  /** Ends editing, and shows what was written before. */
  endEdit() {
    this.#editAt(null);
    this.#set(this.#drafts.get(nameOf(this.#of)));
    this.focus();
  }

  #keep(conversation, text) {
    this.#drafts.set(nameOf(conversation), text);
  }

  #set(text) {
    this.#field.value = text;
    this.#changed();
  }

  #changed() {
    // Not the attribute: a button that is disabled cannot be found with the keyboard.
    byId("send").setAttribute("aria-disabled", String(!this.#field.value.trim()));
    if (CSS.supports("field-sizing", "content")) return;
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}

function nameOf({ id }) {
  return id ?? ""; // what has no id yet is the new chat
}

function hasModifier({ shiftKey, ctrlKey, metaKey, altKey }) {
  return shiftKey || ctrlKey || metaKey || altKey;
}
