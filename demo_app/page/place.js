// Where the reader is in the messages, and stays while they change.

import { byId } from "./dom.js";

const NEAR = 48; // pixels from the end that count as the end
const GAP = 16; // pixels above a question at the top
const SHARE = 0.6; // of the window that a long question may take; the rest is the answer's
const AHEAD = "800px 0px"; // more messages are there before the reader comes to them

/**
 * Keeps the place: at the end, which is followed; at a question that was just asked, while its answer
 * grows below it; or wherever the reader has gone. Calls `on.earlier()` near the first message that is
 * shown, and `on.later()` near the last one, which return whether more has come, and `on.end()` where
 * the last ones of all are to be shown.
 */
export class Place {
  #talk = byId("talk");
  #list = byId("messages");
  #follows = true; // the reader is at the end, and stays there
  #question = null; // the element of the question that stands at the top
  #held = 0; // the scroll offset that it has there
  #height = 0; // of the window that the messages are seen through, when it was last looked at
  #isLoading = false;
  #on;

  constructor(on) {
    this.#on = on;
    this.#talk.addEventListener("scroll", () => this.#scrolled());
    byId("newest").addEventListener("click", () => this.toEnd());
    this.#talk.addEventListener("keydown", ({ key, target }) => {
      if (key === "End" && target === this.#talk) this.toEnd();
    });
    new ResizeObserver(() => this.update()).observe(this.#talk);
    const observer = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) if (isIntersecting) this.#load(target, observer);
    }, { root: this.#talk, rootMargin: AHEAD });
    for (const id of ["older", "later"]) {
      observer.observe(byId(id));
      byId(id).addEventListener("click", () => this.#load(byId(id), observer));
    }
  }

  /** Begins with another conversation, at its end. */
  begin() {
    this.#list.style.minHeight = "";
    this.#question = null;
    this.#follows = true;
  }

  /** Goes to the newest message, and stays there. */
  toEnd() {
    if (this.#hasLater) this.#on.end();
    this.#question = null;
    this.#follows = true;
    this.update();
  }

  /** Leaves the end to itself, for what the reader is shown elsewhere. */
  leave() {
    this.#question = null;
    this.#follows = false;
  }

  /** Goes to a message, also where those before it are laid out only now. */
  goTo(element, times = 3) {
    const isLow = element.offsetHeight < this.#talk.clientHeight * SHARE;
    element.scrollIntoView({ block: isLow ? "center" : "start" });
    if (times) requestAnimationFrame(() => this.goTo(element, times - 1));
  }

  /** Has a question that was just asked stand at the top, with room for its answer. */
  ask(question) {
    this.#question = question;
    this.#follows = false;
    this.update();
  }

  /** Changes the messages, and has the one that the reader looks at stay where it is. */
  keep(change) {
    const seen = this.#follows || this.#question ? null : this.#firstSeen();
    const before = seen?.getBoundingClientRect().top;
    change();
    if (seen?.isConnected) this.#talk.scrollTop += seen.getBoundingClientRect().top - before;
    this.update();
  }

  /** Is told that something has changed. */
  update() {
    if (this.#question && !this.#question.isConnected) this.#question = null;
    if (this.#question) this.#hold();
    // What stands there without messages is read from its beginning.
    else if (!this.#list.firstChild) this.#talk.scrollTop = 0;
    else if (this.#follows) this.#talk.scrollTop = this.#talk.scrollHeight;
    this.#height = this.#talk.clientHeight;
    this.#show();
  }

  #hold() {
    const { clientHeight } = this.#talk;
    const top = this.#question.offsetTop - GAP;
    const end = this.#question.offsetTop + this.#question.offsetHeight - clientHeight * SHARE;
    const target = Math.max(top, end, 0);
    const below = parseFloat(getComputedStyle(this.#list.parentElement).paddingBottom);
    this.#list.style.minHeight = `${target + clientHeight - below - this.#list.offsetTop}px`;
    this.#talk.scrollTop = target;
    this.#held = this.#talk.scrollTop;
  }

  #scrolled() {
    const { scrollTop, clientHeight } = this.#talk;
    if (this.#question && Math.abs(scrollTop - this.#held) < 2) return;
    // Where a notice has taken some of the room, it was not the reader who left the place.
    if (clientHeight === this.#height) {
      this.#question = null;
      this.#follows = this.#left < NEAR && !this.#hasLater;
    }
    this.#show();
  }

  /** Whether there are messages after the last one that is shown. */
  get #hasLater() {
    return !byId("later").hidden;
  }

  get #left() {
    const { scrollTop, scrollHeight, clientHeight } = this.#talk;
    return scrollHeight - scrollTop - clientHeight;
  }

  #show() {
    if (!this.#list.firstChild) this.#follows = true;
    byId("newest").hidden = !this.#hasLater && (this.#follows || this.#left < NEAR);
  }

  #firstSeen() {
    const top = this.#talk.getBoundingClientRect().top;
    const all = this.#list.children;
    let [from, to] = [0, all.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (all[middle].getBoundingClientRect().bottom <= top) from = middle + 1;
      else to = middle;
    }
    return all[from] ?? null;
  }

  async #load(button, observer) {
    if (this.#isLoading) return;
    this.#isLoading = true;
    const hadFocus = document.activeElement === button;
    const hasMore = await (button.id === "older" ? this.#on.earlier() : this.#on.later());
    this.#isLoading = false;
    if (hadFocus && button.hidden) this.#talk.focus({ preventScroll: true });
    if (!hasMore) return;
    observer.unobserve(button); // or a button that is still seen would not be told again
    observer.observe(button);
  }
}
