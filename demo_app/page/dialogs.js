// The three dialogs. Each resolves with what was chosen, or with null.

import { byId, make } from "./dom.js";
import { addressOf } from "./storage.js";

const LONGEST = 100; // letters of a title that is asked about

/** Offers the models that there are; also in a dialog that was opened before the server told them. */
export function offerModels(models) {
  byId("models").replaceChildren(...models.map((value) => make("option", { value })));
}

/** Asks for the API's address, its key and one of its models: {base, key, model, remember}. */
export async function askSettings({ base, key, model, remember }, models) {
  offerModels(models);
  const [baseField, keyField] = [byId("base"), byId("key")];
  baseField.value = base;
  keyField.value = key;
  byId("model").value = model;
  byId("remember").checked = remember;
  const check = () => {
    const address = addressOf(baseField.value);
    baseField.setCustomValidity(address ? "" : "Give an address such as http://127.0.0.1:8000");
    const sendable = /^[\x21-\x7e]*$/.test(keyField.value.trim());
    keyField.setCustomValidity(sendable ? "" : "A key has no spaces, and no letters beyond ASCII");
  };
  baseField.oninput = keyField.oninput = check;
  check();
  if (!(await ask("settings"))) return null;
  const [newBase, newKey, newModel] = [baseField, keyField, byId("model")].map((one) => one.value.trim());
  return { base: newBase, key: newKey, model: newModel, remember: byId("remember").checked };
}

/** Asks for a title. */
export async function askTitle(title) {
  const field = byId("new-title");
  field.value = title;
  const asking = ask("rename-dialog");
  field.select();
  return (await asking) ? field.value.trim() : null;
}

/** Asks whether a conversation is to be deleted; it is everybody's where no key owns it. */
export function askToDelete(title, isEverybodys) {
  byId("delete-everybody").hidden = !isEverybodys;
  const letters = [...title]; // not halves of them
  byId("delete-name").textContent = letters.length > LONGEST ? `${letters.slice(0, LONGEST).join("")}…` : title;
  return ask("delete-dialog");
}

function ask(id) {
  const dialog = byId(id);
  dialog.returnValue = "cancel"; // which Escape leaves as it is
  // Not submit buttons: Enter in a field is a yes.
  for (const button of dialog.querySelectorAll("[data-close]")) button.onclick = () => dialog.close();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}
