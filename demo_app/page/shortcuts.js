// Keys that work everywhere on the page; dialogs.js has the sheet that shows them.

import { byId } from "./dom.js";

export const isMac = /mac|iphone|ipad/i.test(navigator.platform);

/** Calls what `on` has by the names of `nameOf`; dialogs have their own keys. */
export function setUpShortcuts(on) {
  byId("open-shortcuts").addEventListener("click", on.sheet);
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    const act = on[nameOf(event)];
    if (!act || act() === false) return; // then the browser does it
    event.preventDefault();
  });
}

/** Returns what a key is for: "newChat", "search", "print", "box", "sheet", or undefined. */
export function nameOf({ key, code, ctrlKey, metaKey, shiftKey, altKey, target }) {
  const main = isMac ? metaKey && !ctrlKey : ctrlKey && !metaKey;
  if (altKey) return undefined;
  if (main && shiftKey && code === "KeyO") return "newChat";
  if (main && !shiftKey && key.toLowerCase() === "k") return "search";
  if (main && !shiftKey && key.toLowerCase() === "p") return "print";
  if (main && (key === "/" || key === "?")) return "sheet"; // on some keyboards "/" is on another key, with Shift
  if (ctrlKey || metaKey) return undefined;
  if (shiftKey && key === "Escape") return "box";
  return key === "?" && !target.closest?.("input, textarea, select") ? "sheet" : undefined;
}
