// Puts the page together: which conversation is open, who is told what, and what each button does.

import { Api, isId } from "./api.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { announce, byId, loadStyle, make } from "./dom.js";
import { Drafts } from "./drafts.js";
import { closeDrawer, openDrawer, setUpDrawer } from "./drawer.js";
import { ApiError, ConnectionLost, needsKey } from "./errors.js";
import { MessagesView, textOf } from "./messages-view.js";
import { setUpModels, showModels } from "./model-picker.js";
import { SETTINGS, hideNotice, showError, showTrouble } from "./notice.js";
import { addressOf, readSettings, writeSettings } from "./storage.js";
import { Tabs } from "./tabs.js";
import { setUpTheme } from "./theme-button.js";
import { SessionList } from "./session-list.js";
import { showSessions } from "./session-list-view.js";
import { setUpShortcuts } from "./shortcuts.js";
import { wordsOfSilence } from "./words.js";

const GREETING = "A conversation that goes on";
const STARTERS = ["My name is Ada.", "What do you remember?", "Say something worth keeping."];

let settings, api, sessions, current;
let conversations; // by id: what streams goes on while another one is looked at
let dismissed = null; // an error of the open conversation that was seen
let trouble = null; // what is wrong though no turn is under way: {error, go, label}

const composer = new Composer({
  send: (text, place) => act(() => (place === null ? current.ask(text) : current.edit(place, text))),
  stop: () => current.stop(),
  mark: (place) => view.mark(place),
  editLast,
});
const view = new MessagesView({
  regenerate: () => {
    composer.focus(); // the button that was pressed goes
    act(() => current.regenerate());
  },
  edit: (place, text) => composer.edit(place, text),
  older,
});
const tabs = new Tabs({
  changed: ({ base, id, gone }) => {
    if (base !== api.base) return;
    if (gone) sessions.remove(id);
    else sessions.load();
    // What is not seen is looked at when it is.
    if (id === current.id && tabs.isSeen) current.refresh();
  },
  look: () => current.refresh(),
  away: () => current.pause(),
  online: () => { for (const one of new Set([...conversations.values(), current])) one.reconnect(); },
});

/** What SessionActions needs of the page. */
const hands = {
  get api() { return api; },
  get sessions() { return sessions; },
  get current() { return current; },
  get conversations() { return conversations; },
  act,
  use,
  tell: (id, gone) => tabs.tell(api.base, id, gone),
  newChat,
  forget: (id) => composer.forget(id),
};
let actions = null;
let styled = null; // what overlays are shown with
const failed = {}; // how often modules could not be loaded, of which browsers remember that

/** Does something with a module that is not loaded at first, and says so where it cannot be. */
async function use(module, doing) {
  let loaded;
  try {
    [loaded] = await Promise.all([import(module + "?".repeat(failed[module] ?? 0)), styled ??= loadStyle("overlays.css")]);
  } catch {
    styled = null;
    failed[module] = (failed[module] ?? 0) + 1;
    const error = new ConnectionLost(wordsOfSilence(`${location.origin}/`));
    trouble = { error, label: "Try again", go: () => { giveUp(); use(module, doing); } };
    return showAll();
  }
  return doing(loaded);
}

/** Does something with the menus, or with what they offer. */
function withActions(doing) {
  return use("./session-actions.js", ({ SessionActions }) => doing(actions ??= new SessionActions(hands)));
}

/** Begins anew, with the settings as they are now. */
function start() {
  settings = readSettings();
  api = new Api({ ...settings, base: addressOf(settings.base) ?? addressOf("") });
  for (const one of new Set([...(conversations?.values() ?? []), ...(current ? [current] : [])])) one.leave();
  conversations = new Map();
  composer.keepIn(new Drafts(api.base));
  showModels([], api.model);
  sessions = new SessionList(api);
  sessions.addEventListener("change", showList);
  act(greet);
  sessions.load();
  open(location.hash.slice(1));
}

/** Asks for the models' names, and so whether there is an API, and a key needed. */
async function greet() {
  const asked = api;
  try {
    await asked.newSession();
    if (asked !== api) return;
    showModels(asked.models, settings.model);
  } catch (error) {
    if (needsKey(error)) sessions.refuse();
    throw error;
  }
}

/** Opens the conversation of an id, or a new one; "id@place" is one of its messages. */
function open(address) {
  let [, id, place] = /^(.*?)(?:@(\d{1,10}))?$/s.exec(address);
  trouble = null;
  if (id && !isId(id)) {
    history.replaceState(null, "", location.pathname + location.search);
    id = "";
    trouble = { error: new Error("That link has no valid id."), label: "" };
  }
  const known = conversations.get(id);
  if (current !== known) current?.pause();
  current = known ?? watch(new Conversation(api, id || null));
  if (id) conversations.set(id, current);
  const isRead = current.turn ? current.refresh() : id ? current.load() : null;
  composer.turnTo(current);
  view.show(current);
  showAll();
  if (id && place) goTo(Number(place), isRead);
}

/** Goes to a message of the open conversation, once what is being read is there. */
async function goTo(place, isRead) {
  const conversation = current;
  await isRead;
  if (conversation.error) return;
  await act(() => conversation.loadFrom(place));
  if (conversation !== current) return;
  view.goTo(place);
  history.replaceState(null, "", `#${current.id}`); // a reload is for the end again
}

function watch(conversation) {
  const isOpen = () => conversation === current;
  const on = (name, listener) => conversation.addEventListener(name, listener);
  on("change", () => (isOpen() ? showAll() : showList()));
  on("piece", () => { if (isOpen()) view.grow(); });
  on("begin", () => {
    conversations.set(conversation.id, conversation);
    if (isOpen()) history.replaceState(null, "", `#${conversation.id}`);
  });
  on("asked", () => tabs.tell(api.base, conversation.id));
  on("answer", ({ detail }) => {
    const isWhole = detail.status !== "incomplete";
    if (isOpen()) announce(isWhole ? `Assistant: ${textOf(detail)}` : "The answer stopped before its end.");
  });
  on("failed", ({ detail }) => {
    if (!isOpen()) return;
    trouble = { error: detail, label: "", of: ending(conversation) };
    showAll();
  });
  on("unanswered", ({ detail }) => composer.restore(conversation, detail));
  on("missing", () => {
    if (conversations.get(conversation.id) !== conversation) return;
    if (sessions.isOwn) sessions.remove(conversation.id);
    else sessions.load();
  });
  on("stored", ({ detail: isOwn }) => {
    if (isOwn) tabs.tell(api.base, conversation.id);
    if (!sessions.isOwn) sessions.load();
  });
  return conversation;
}

/** Shows the open conversation as it is now. */
function showAll() {
  const { id, title, turn, loading, error, messages } = current;
  const isNew = !messages.length && !turn;
  // Before it has a title of its own it goes by its first words, as the server names it too.
  const [firstWords] = textOf(current.shown[0] ?? turn?.question[0] ?? {}).split("\n");
  const isGone = isNew && current.isGone;
  const heading = title || (isGone ? "Deleted" : isNew ? "New chat" : firstWords || "Conversation");
  byId("title").textContent = heading;
  document.title = isNew && !title ? "Hermes chat" : `${heading} · Hermes chat`;
  byId("show-id").hidden = !id;
  byId("tools").hidden = byId("options").hidden = !id || isNew;
  byId("loading").hidden = !loading || !isNew;
  byId("empty").hidden = !isNew || loading || Boolean(error);
  byId("empty-text").hidden = Boolean(id);
  byId("empty-unknown").hidden = !id || isGone;
  byId("empty-gone").hidden = !isGone;
  byId("empty-title").textContent = isGone ? "Nothing here any more" : id ? "Nothing here yet" : GREETING;
  if (trouble?.of && (turn || trouble.of !== ending(current))) trouble = null; // there is another answer
  composer.setBusy(Boolean(turn) && turn.phase !== "failed");
  view.show(current);
  if (turn) showTrouble(turn);
  else if (error && error !== dismissed) showError(error, needsKey(error) ? SETTINGS : "Try again");
  else if (trouble) showError(trouble.error, trouble.label);
  else hideNotice();
  if (id && !isNew && !loading && !error) noteCurrent(heading);
  showList();
}

/** Shows the list, in which the open conversation is marked, and each that is being answered. */
function showList() {
  const answered = [...conversations.values()].filter(({ turn }) => turn && turn.phase !== "failed").map(({ id }) => id);
  showSessions(sessions, current?.id, new Set(answered));
}

/** Returns what tells whether the conversation ends as it did. */
function ending({ length, messages }) {
  return `${length} ${textOf(messages.at(-1) ?? {})}`;
}

function noteCurrent(title) {
  const { id, updated, parent } = current;
  const known = sessions.find(id);
  const at = updated ?? known?.updated_at ?? new Date().toISOString();
  const isKnown = known?.title === title && known?.updated_at === at && (known?.parent_id ?? null) === parent;
  if (!isKnown) sessions.note({ id, title, updated_at: at, parent_id: parent });
}

/** Does something that may fail, and says so where it does; "Try again" does it again. */
async function act(doing) {
  trouble = null;
  try {
    await doing();
  } catch (error) {
    const isElsewhere = error instanceof ApiError && error.status === 404 && !error.code?.startsWith("session");
    const isSetting = isElsewhere || needsKey(error);
    trouble = { error, label: isSetting ? SETTINGS : "Try again", go: isSetting ? openSettings : () => act(doing) };
  }
  showAll();
}

async function openSettings() {
  showModels(api.models, settings.model); // which the server may have told with a conversation's id
  const chosen = await use("./dialogs.js", ({ askSettings }) => askSettings(settings));
  if (!chosen) return;
  const isOther = (name) => chosen[name] !== settings[name];
  if (!Object.keys(chosen).some(isOther)) return;
  writeSettings(chosen);
  if (["base", "key", "model"].some(isOther)) start();
  else settings = chosen;
}

function newChat() {
  history.pushState(null, "", location.pathname + location.search);
  open("");
  closeDrawer();
  composer.focus();
}

/** Loads earlier messages; false where there are none, or they cannot be loaded. */
async function older() {
  const { start } = current;
  if (!start || current.turn) return false;
  await act(() => current.loadOlder());
  return current.start < start;
}

/** Has the last question that was asked edited, as the arrow does in an empty box. */
function editLast() {
  if (current.turn) return;
  const at = current.messages.findLastIndex(({ role, content }) => role === "user" && typeof content === "string");
  if (at >= 0) composer.edit(current.places[at], current.messages[at].content);
}

/** Asks another model from the next question on. */
function chooseModel(model) {
  settings = { ...settings, model };
  writeSettings(settings);
  api.model = model;
}

function openMenu(event) {
  const button = event.target.closest("#sessions button");
  const isKey = event.type === "keydown";
  if (!button || (isKey && !["ArrowDown", "ArrowUp"].includes(event.key))) return;
  event.preventDefault();
  const { id } = button.closest("li").dataset;
  withActions((to) => to.openMenu(id, { last: event.key === "ArrowUp" }));
}

/** Opens the menu of the open conversation, which has on a narrow window what stands in the bar else. */
function openOptions(event) {
  if (event.type === "keydown" && !["ArrowDown", "ArrowUp"].includes(event.key)) return;
  event.preventDefault();
  withActions((to) => to.openOptions({ last: event.key === "ArrowUp" }));
}

function chosen(event) {
  openMenu(event);
  if (!event.target.closest("a")) return;
  const isDrawer = closeDrawer(); // the open one's link too
  if (event.target.closest("#hits")) return; // which leads to a message
  if (event.detail && !isDrawer) setTimeout(() => composer.focus()); // by a mouse, which has no place to keep
}

function search() {
  openDrawer();
  byId("search").select();
  byId("search").focus();
}

function showSheet() {
  use("./dialogs.js", ({ showShortcuts }) => showShortcuts());
}

/** Prints all of a conversation; false where all is loaded, and the browser does it. */
function print() {
  if (!current.start) return false;
  announce("The earlier messages are loaded, to be printed.");
  return act(async () => {
    await current.loadFrom(0);
    showAll();
    globalThis.print();
  });
}

/** On paper there is all that is loaded, and what is not is told. */
function showPaper(isPaper) {
  const { start } = current;
  byId("paper").textContent = isPaper && start ? `The first ${start} messages are not loaded, and so not printed. Ctrl+P on the page prints all.` : "";
  view.showWhole(isPaper);
}

function tryAgain() {
  if (needsKey(current.turn?.error ?? current.error)) return openSettings();
  if (current.turn) current.retry();
  else if (trouble) trouble.go();
  else current.load();
  composer.focus();
}

function giveUp() {
  if (current.turn) return current.giveUp();
  dismissed = current.error;
  trouble = null;
  showAll();
  composer.focus();
}

function onEscape(event) {
  if (event.key !== "Escape" || event.shiftKey || document.querySelector("dialog[open], :popover-open")) return;
  if (composer.isEditing) composer.endEdit();
  else if (current.turn) current.stop();
}

for (const [id, listener] of Object.entries({
  "new-chat": newChat, "bar-new-chat": newChat, options: openOptions, "open-settings": openSettings,
  "show-id": () => { if (!byId("id-panel")) withActions((to) => to.showId()); },
  rename: () => withActions((to) => to.rename(current.id)), fork: () => withActions((to) => to.fork(current.id)),
  delete: () => withActions((to) => to.remove(current.id)),
  "more-sessions": () => sessions.more(),
  sessions: chosen, hits: chosen, archived: () => sessions.turnTo(!sessions.showsArchived),
  "notice-go": tryAgain, "notice-stop": giveUp,
})) {
  byId(id).addEventListener("click", listener);
}
for (const text of STARTERS) {
  const button = make("button", { type: "button", className: "starter", textContent: text });
  button.addEventListener("click", () => { composer.focus(); act(() => current.ask(text)); });
  byId("starters").append(make("li", {}, button));
}
addEventListener("beforeprint", () => showPaper(true));
addEventListener("afterprint", () => showPaper(false));
addEventListener("hashchange", () => open(location.hash.slice(1)));
addEventListener("storage", ({ key }) => { // another tab wrote it
  if (key?.startsWith("hermes-sessions")) sessions.load();
  const isOther = JSON.stringify(readSettings()) !== JSON.stringify(settings);
  if (isOther && !current.turn) start();
});
document.addEventListener("keydown", onEscape);
byId("sessions").addEventListener("keydown", openMenu);
byId("options").addEventListener("keydown", openOptions);
byId("search").addEventListener("input", ({ target }) => sessions.search(target.value));
setUpTheme();
setUpDrawer();
setUpModels(chooseModel);
setUpShortcuts({ newChat, search, print, sheet: showSheet, box: () => { closeDrawer(); byId("text").focus(); } });
start();
if (!matchMedia("(pointer: coarse)").matches) composer.focus();
