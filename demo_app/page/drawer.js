// On a narrow window the list is a drawer over the conversation; on a wide one it can be put away.

import { byId } from "./dom.js";
import { read, write } from "./storage.js";

const AWAY = "hermes-list-away";

const narrow = matchMedia("(max-width: 47.99rem)");

export function setUpDrawer() {
  byId("open-side").addEventListener("click", () => (narrow.matches ? open() : putAway(!isAway())));
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

/** Closes it, once something was chosen in it; false where it was not open. */
export function closeDrawer() {
  if (!isOpen()) return false;
  show(false);
  byId("title").focus();
  return true;
}

/** Has the list seen, whatever it is. */
export function openDrawer() {
  if (!narrow.matches) putAway(false);
  else if (!isOpen()) show(true);
}

function isAway() {
  return read("localStorage", AWAY) === true;
}

function putAway(isAway) {
  write("localStorage", AWAY, isAway);
  show(false);
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
  const isHidden = narrow.matches ? !opened : isAway();
  document.body.classList.toggle("side-open", opened);
  document.body.classList.toggle("side-away", isHidden);
  byId("scrim").hidden = !opened;
  byId("open-side").setAttribute("aria-expanded", String(!isHidden));
  // Where one covers the other, only what is in front can be reached.
  byId("side").inert = isHidden;
  byId("main").inert = opened;
}
