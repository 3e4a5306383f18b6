// The dialogs, loaded and made when they are asked for. Each resolves with what was chosen, or with null.

import { byId, make } from "./dom.js";
import { isMac } from "./shortcuts.js";
import { addressOf, isKey } from "./storage.js";

const MAIN = isMac ? "⌘" : "Ctrl";
const LONGEST = 100; // letters of a title that is asked about

/** What the sheet shows: [what it does, ways to do it as lists of keys]. */
const SHEET = [
  ["Send the message", [["Enter"]]],
  ["Begin a new line", [["Shift", "Enter"]]],
  ["Edit your last question, in an empty box", [["↑"]]],
  ["Stop the answer, or end editing", [["Esc"]]],
  ["New chat", [[MAIN, "Shift", "O"]]],
  ["Search the conversations", [[MAIN, "K"]]],
  ["Print the whole conversation", [[MAIN, "P"]]],
  ["Go to the message box", [["Shift", "Esc"]]],
  ["Show this sheet", [["?"], [MAIN, "/"]]],
];

/** Asks for the API's address, its key and a model, of which model-picker.js offers names: {base, key, model, remember}. */
export async function askSettings({ base, key, model, remember }) {
  dialogOf("settings");
  const [baseField, keyField] = [byId("base"), byId("key")];
  baseField.value = base;
  keyField.value = key;
  byId("model").value = model;
  byId("remember").checked = remember;
  const check = () => {
    const address = addressOf(baseField.value);
    baseField.setCustomValidity(address ? "" : "Give an address such as http://127.0.0.1:8000");
    keyField.setCustomValidity(isKey(keyField.value.trim()) ? "" : "A key has no spaces, and no letters beyond ASCII");
  };
  baseField.oninput = keyField.oninput = check;
  check();
  if (!(await ask("settings"))) return null;
  const [newBase, newKey, newModel] = [baseField, keyField, byId("model")].map((one) => one.value.trim());
  return { base: newBase, key: newKey, model: newModel, remember: byId("remember").checked };
}

/** Asks for a title. */
export async function askTitle(title) {
  dialogOf("rename-dialog");
  const field = byId("new-title");
  field.value = title;
  const asking = ask("rename-dialog");
  field.select();
  return (await asking) ? field.value.trim() : null;
}

/** Asks whether a conversation is to be deleted; it is everybody's where no key owns it. */
export function askToDelete(title, isEverybodys) {
  dialogOf("delete-dialog");
  byId("delete-everybody").hidden = !isEverybodys;
  const letters = [...title]; // not halves of them
  const short = letters.length > LONGEST ? `${letters.slice(0, LONGEST).join("")}…` : title;
  byId("delete-name").textContent = `“${short}”`;
  return ask("delete-dialog");
}

/** Shows the keys that work everywhere. */
export function showShortcuts() {
  return ask("shortcuts");
}

function ask(id) {
  const dialog = dialogOf(id);
  dialog.returnValue = "cancel"; // which Escape leaves as it is
  // Not submit buttons: Enter in a field is a yes.
  for (const button of dialog.querySelectorAll("[data-close]")) button.onclick = () => dialog.close();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}

function dialogOf(id) {
  return byId(id) ?? document.body.appendChild(MADE[id](id));
}

const MADE = {
  settings: (id) => formOf(id, "Settings", "Save", [
    ...fieldOf("base", "API address", { type: "url", inputMode: "url" }),
    hintOf("base", "Empty for the server that this page came from. Another one has to allow this page’s origin."),
    ...fieldOf("key", "API key", { type: "password" }),
    hintOf("key", "Sent to that address alone, as a bearer token. Empty where the server needs none."),
    make("label", { className: "check" }, make("input", { id: "remember", type: "checkbox" }), "Keep the key when this tab is closed"),
    ...modelFields(),
    hintOf("model", "Empty for the server’s own choice."),
  ]),
  "rename-dialog": (id) => formOf(id, "Rename the conversation", "Rename", fieldOf("new-title", "Title", { maxLength: 500, required: true })),
  "delete-dialog": (id) => {
    const everybody = make("span", { id: "delete-everybody", textContent: ", for everyone who has its id" });
    const text = make("p", { id: "delete-text" }, make("bdi", { id: "delete-name" }), " will be gone for good", everybody, ".");
    const dialog = formOf(id, "Delete the conversation?", "Delete", [text], { no: "Keep it", isDanger: true });
    dialog.setAttribute("aria-describedby", "delete-text");
    return dialog;
  },
  shortcuts: (id) => {
    const rows = SHEET.map(([label, ways]) => make("div", {}, make("dt", { textContent: label }), make("dd", {}, ...namesOf(ways))));
    const close = make("button", { type: "button", className: "primary", "data-close": "", textContent: "Close" });
    const title = titleOf(id, "Keyboard shortcuts", { tabIndex: -1, autofocus: true });
    return make("dialog", { id, "aria-labelledby": title.id }, title, make("dl", { id: "shortcut-list" }, rows), toolsOf(close));
  },
};

/** Makes a dialog with a form, whose buttons say yes and no. */
function formOf(id, title, yes, fields, { no = "Cancel", isDanger = false } = {}) {
  const tools = toolsOf(
    make("button", { type: "button", className: "quiet", "data-close": "", autofocus: isDanger, textContent: no }),
    make("button", { type: "submit", value: "ok", className: isDanger ? "danger" : "primary", textContent: yes }),
  );
  const heading = titleOf(id, title);
  return make("dialog", { id, "aria-labelledby": heading.id }, make("form", { method: "dialog" }, heading, fields, tools));
}

function titleOf(id, textContent, properties) {
  return make("h2", { id: `${id.replace("-dialog", "")}-title`, textContent, ...properties });
}

function toolsOf(...buttons) {
  return make("div", { className: "dialog-tools" }, buttons);
}

function fieldOf(id, label, properties) {
  const name = make("label", { htmlFor: id, textContent: label });
  const hint = id === "new-title" ? {} : { "aria-describedby": `${id}-hint` };
  return [name, make("input", { id, type: "text", autocomplete: "off", spellcheck: false, ...hint, ...properties })];
}

function hintOf(id, textContent) {
  return make("p", { className: "hint", id: `${id}-hint`, textContent });
}

function modelFields() {
  const [label, field] = fieldOf("model", "Model", {});
  label.className = "apart";
  field.setAttribute("list", "models");
  return [label, field];
}

function namesOf(ways) {
  return ways.flatMap((keys, number) => [
    ...(number ? [" or "] : []),
    ...keys.flatMap((key, at) => [...(at ? ["+"] : []), make("kbd", { textContent: key })]),
  ]);
}
