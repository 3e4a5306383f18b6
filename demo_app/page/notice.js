// What stands above the message box when something is wrong, and what can be done about it.

import { byId } from "./dom.js";
import { ConnectionLost, isBusy, needsKey } from "./errors.js";
import { inWords } from "./words.js";

/** The label of the way out where a key is missing. */
export const SETTINGS = "Open the settings";

let countdown = 0;

/** Shows a turn's trouble, or hides it. The text is said once, and not again at each second. */
export function showTrouble(turn) {
  clearInterval(countdown);
  const isTrouble = turn && (turn.phase === "waiting" || turn.phase === "failed" || turn.error);
  if (!isTrouble) {
    hideNotice();
    return;
  }
  const kept = turn.error instanceof ConnectionLost ? keptOf(turn) : "";
  const next = { waiting: " It will be tried again.", asking: " Trying again…" }[turn.phase] ?? "";
  const go = needsKey(turn.error) ? SETTINGS : "Try again";
  show(`${inWords(turn.error)}${kept}${next}`, turn.phase === "asking" ? "" : go, "Give up");
  if (turn.retryAt === null) return;
  tick(turn);
  countdown = setInterval(tick, 1000, turn);
}

/** Says what a lost connection has not lost. */
function keptOf({ hasBegun }) {
  return hasBegun ? " What came so far is kept." : " Your question is kept.";
}

/** Shows the seconds: those until the next attempt, or until a busy conversation is free again. */
function tick({ error, phase, retryAt }) {
  const seconds = Math.max(Math.ceil((retryAt - Date.now()) / 1000), 0);
  const left = isBusy(error) && seconds ? ` It is free again in ${seconds} s at the latest.` : "";
  byId("notice-time").textContent = left;
  if (phase === "waiting" && !left) byId("notice-go").textContent = `Try again (${seconds} s)`;
}

/** Shows an error that no turn has; `go` is the label of the button beside it, or "". */
export function showError(error, go) {
  clearInterval(countdown);
  show(inWords(error), go, "Dismiss");
}

export function hideNotice() {
  byId("notice").hidden = true;
  byId("notice-text").textContent = byId("notice-time").textContent = "";
}

function show(text, go, stop) {
  byId("notice").hidden = false;
  byId("notice-time").textContent = "";
  if (byId("notice-text").textContent !== text) byId("notice-text").textContent = text;
  for (const [id, label] of [["notice-go", go], ["notice-stop", stop]]) {
    byId(id).hidden = !label;
    if (label) byId(id).textContent = label;
  }
}
