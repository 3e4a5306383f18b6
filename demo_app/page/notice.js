// What stands above the message box when something is wrong, and what can be done about it.

import { byId } from "./dom.js";
import { ConnectionLost, inWords } from "./errors.js";

let countdown = 0;

/** Shows a turn's trouble, or hides it. The text is said once, and not again at each second. */
export function showTrouble(turn) {
  clearInterval(countdown);
  const isTrouble = turn && (turn.phase === "waiting" || turn.phase === "failed" || turn.error);
  if (!isTrouble) {
    hideNotice();
    return;
  }
  const kept = turn.error instanceof ConnectionLost ? " Your question is kept." : "";
  const next = { waiting: " It will be tried again.", failed: "", asking: " Trying again…" }[turn.phase];
  show(`${inWords(turn.error)}${kept}${next}`, turn.phase === "asking" ? "" : "Try again", "Give up");
  if (turn.phase === "waiting") {
    const tick = () => {
      const seconds = Math.max(Math.ceil((turn.retryAt - Date.now()) / 1000), 0);
      byId("notice-go").textContent = `Try again (${seconds} s)`;
    };
    tick();
    countdown = setInterval(tick, 1000);
  }
}

/** Shows an error that no turn has; `go` is the label of the button beside it, or "". */
export function showError(error, go) {
  clearInterval(countdown);
  show(inWords(error), go, "");
}

export function hideNotice() {
  byId("notice").hidden = true;
  byId("notice-text").textContent = "";
}

function show(text, go, stop) {
  byId("notice").hidden = false;
  if (byId("notice-text").textContent !== text) byId("notice-text").textContent = text;
  for (const [id, label] of [["notice-go", go], ["notice-stop", stop]]) {
    byId(id).hidden = !label;
    if (label) byId(id).textContent = label;
  }
}
