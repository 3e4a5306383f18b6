// On a narrow window the list is a drawer over the conversation.

import { byId } from "./dom.js";

const narrow = matchMedia("(max-width: 47.99rem)");

export function setUpDrawer() {
  byId("open-side").addEventListener("click", open);
  byId("close-side").addEventListener("click", close);
  byId("scrim").addEventListener("click", close);
  byId("side").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isOpen()) {
      event.stopPropagation();
      close();
    }
  });
  narrow.addEventListener("change", () => show(false));
  show(false);
}

/** Closes it, once something was chosen in it. */
export function closeDrawer() {
  if (!isOpen()) return;
  show(false);
  byId("title").focus();
}

function isOpen() {
  return document.body.classList.contains("side-open");
}

function open() {
  show(true);
  byId("close-side").focus();
}

function close() {
  show(false);
  byId("open-side").focus();
}

function show(opened) {
  document.body.classList.toggle("side-open", opened);
  byId("scrim").hidden = !opened;
  byId("open-side").setAttribute("aria-expanded", String(opened));
  // Where one covers the other, only what is in front can be reached.
  byId("side").inert = narrow.matches && !opened;
  byId("main").inert = opened;
}
