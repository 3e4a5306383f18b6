// The choice of a model below the message box, where the server has several; the settings offer the same names.

import { byId, make } from "./dom.js";

const ANY = "Default model";

/**
 * Shows the models that there are, and the one that is asked; one alone is no choice.
 *
 * Settings that are open by then offer them as well.
 */
export function showModels(models, chosen) {
  const picker = byId("model-picker");
  const names = chosen && !models.includes(chosen) ? [chosen, ...models] : models;
  byId("model-choice").hidden = names.length < 2;
  picker.replaceChildren(make("option", { value: "", textContent: ANY }));
  for (const name of names) picker.append(make("option", { value: name, textContent: name }));
  picker.value = chosen;
  byId("models").replaceChildren(...models.map((value) => make("option", { value })));
}

/** Calls `choose(name)` with a model, or with "". */
export function setUpModels(choose) {
  byId("model-picker").addEventListener("change", ({ target }) => choose(target.value));
}
