// A menu of buttons at the button that opened it, as the ARIA practices describe one.

import { icon, make } from "./dom.js";

const GAP = 4; // pixels between the menu and its button, and the window's edge

/** Shows one menu at a time in `element`, which has role="menu" and popover="manual". */
export class Menu {
  #element;
  #opener = () => null; // returns the button, which may have been made anew

  constructor(element) {
    this.#element = element;
    element.addEventListener("keydown", (event) => this.#key(event));
    // A tap elsewhere closes it, and does there what it does.
    document.addEventListener("pointerdown", ({ target }) => {
      if (this.isOpen && !element.contains(target) && !this.#opener()?.contains(target)) this.close(false);
    }, true);
    addEventListener("resize", () => this.close(false));
    addEventListener("blur", () => this.close(false));
  }

  get isOpen() {
    return this.#element.matches(":popover-open");
  }

  /** Opens it with items {label, name, act, isDanger}; `opener` returns the button that it belongs to. */
  open(opener, items, { last = false } = {}) {
    const button = opener();
    if (this.isOpen) {
      const wasHere = this.#opener() === button;
      this.close();
      if (wasHere) return;
    }
    this.#opener = opener;
    this.#element.replaceChildren(...items.map((item) => this.#make(item)));
    this.#element.setAttribute("aria-label", button.getAttribute("aria-label"));
    button.setAttribute("aria-expanded", "true");
    this.#element.showPopover();
    this.#place(button.getBoundingClientRect());
    this.#items.at(last ? -1 : 0).focus();
  }

  /** Closes it, and gives the button the focus back. */
  close(focuses = true) {
    if (!this.isOpen) return;
    this.#element.hidePopover();
    const button = this.#opener();
    button?.setAttribute("aria-expanded", "false");
    if (focuses) button?.focus();
  }

  get #items() {
    return [...this.#element.children];
  }

  #make({ label, name, act, isDanger }) {
    const item = make("button", { type: "button", role: "menuitem", tabIndex: -1, className: isDanger ? "dangerous" : "" });
    item.append(icon(name), label);
    item.addEventListener("click", () => {
      this.close();
      act();
    });
    return item;
  }

  /** Puts it below the button, or above where there is no room, inside the window. */
  #place({ top, bottom, left, right }) {
    const { offsetWidth: width, offsetHeight: height } = this.#element;
    const isRight = getComputedStyle(this.#element).direction === "rtl";
    const x = Math.max(GAP, Math.min(isRight ? right - width : left, innerWidth - width - GAP));
    const y = bottom + GAP + height <= innerHeight ? bottom + GAP : Math.max(GAP, top - GAP - height);
    this.#element.style.left = `${x}px`;
    this.#element.style.top = `${y}px`;
  }

  #key(event) {
    const items = this.#items;
    const at = items.indexOf(document.activeElement);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
    if (event.key === "Escape" || event.key === "Tab") {
      this.close();
      if (event.key === "Tab") return; // which goes on from the button
    } else if (event.key in moves) {
      items.at(moves[event.key] % items.length).focus();
    } else if (event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const found = [...items.slice(at + 1), ...items.slice(0, at + 1)]
        .find((item) => item.textContent.toLowerCase().startsWith(event.key.toLowerCase()));
      found?.focus();
    } else {
      return; // Enter and the space bar press the button
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
