// Puts the page together: which conversation is open, who is told what, and what each button does.

import { Api, isId } from "./api.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { askSettings, askTitle, askToDelete, offerModels } from "./dialogs.js";
import { announce, byId, copy, make } from "./dom.js";
import { closeDrawer, setUpDrawer } from "./drawer.js";
import { ApiError, needsKey } from "./errors.js";
import { MessagesView, textOf } from "./messages-view.js";
import { SETTINGS, hideNotice, showError, showTrouble } from "./notice.js";
import { addressOf, readSettings, writeSettings } from "./storage.js";
import { Tabs } from "./tabs.js";
import { setUpTheme } from "./theme-button.js";
import { SessionList } from "./session-list.js";
import { showSessions } from "./session-list-view.js";

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
});
const view = new MessagesView({
  regenerate: () => {
    composer.focus(); // the button that was pressed goes
    act(() => current.regenerate());
  },
  edit: (place, text) => composer.edit(place, text),
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

/** Begins anew, with the settings as they are now. */
function start() {
  settings = readSettings();
  api = new Api({ ...settings, base: addressOf(settings.base) ?? addressOf("") });
  for (const one of new Set([...(conversations?.values() ?? []), ...(current ? [current] : [])])) one.leave();
  conversations = new Map();
  sessions = new SessionList(api);
  sessions.addEventListener("change", () => showSessions(sessions, current?.id));
  act(greet);
  sessions.load();
  open(location.hash.slice(1));
}

/** Asks for the models' names, and so whether there is an API, and a key needed. */
async function greet() {
  const asked = api;
  try {
    await asked.newSession();
    if (asked === api) offerModels(asked.models);
  } catch (error) {
    if (needsKey(error)) sessions.refuse();
    throw error;
  }
}

/** Opens the conversation of an id, or a new one. */
function open(id) {
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
  if (current.turn) current.refresh();
  else if (id) current.load();
  composer.turnTo(current);
  view.show(current);
  showAll();
}

function watch(conversation) {
  const isOpen = () => conversation === current;
  const on = (name, listener) => conversation.addEventListener(name, listener);
  on("change", () => { if (isOpen()) showAll(); });
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
  const { id, title, turn, loading, error, messages, start: first } = current;
  const isNew = !messages.length && !turn;
  // Before it has a title of its own it goes by its first words, as the server names it too.
  const [firstWords] = textOf(current.shown[0] ?? turn?.question[0] ?? {}).split("\n");
  const isGone = isNew && current.isGone;
  const heading = title || (isGone ? "Deleted" : isNew ? "New chat" : firstWords || "Conversation");
  byId("title").textContent = heading;
  document.title = isNew && !title ? "Hermes chat" : `${heading} · Hermes chat`;
  byId("session-id").textContent = id ?? "";
  byId("copy-id").hidden = !id;
  byId("tools").hidden = !id || isNew;
  byId("older").hidden = !first || Boolean(turn);
  byId("loading").hidden = !loading || !isNew;
  byId("empty").hidden = !isNew || loading || Boolean(error);
  byId("empty-text").hidden = Boolean(id);
  byId("empty-unknown").hidden = !id || isGone;
  byId("empty-gone").hidden = !isGone;
  byId("empty-title").textContent = isGone ? "Nothing here any more" : id ? "Nothing here yet" : GREETING;
  if (trouble?.of && (turn || trouble.of !== ending(current))) trouble = null; // there is another answer
  composer.setBusy(Boolean(turn));
  view.show(current);
  if (turn) showTrouble(turn);
  else if (error && error !== dismissed) showError(error, needsKey(error) ? SETTINGS : "Try again");
  else if (trouble) showError(trouble.error, trouble.label);
  else hideNotice();
  if (id && !isNew && !loading && !error) noteCurrent(heading);
  showSessions(sessions, id);
}

/** Returns what tells whether the conversation ends as it did. */
function ending({ length, messages }) {
  return `${length} ${textOf(messages.at(-1) ?? {})}`;
}

function noteCurrent(title) {
  const { id, updated } = current;
  const known = sessions.items.find((one) => one.id === id);
  const at = updated ?? known?.updated_at ?? new Date().toISOString();
  if (known?.title !== title || known?.updated_at !== at) sessions.note({ id, title, updated_at: at });
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
  const chosen = await askSettings(settings, api.models);
  const isOther = (name) => chosen[name] !== settings[name];
  if (!chosen || !Object.keys(chosen).some(isOther)) return;
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

async function rename() {
  const asked = current;
  const title = await askTitle(byId("title").textContent);
  if (!title) return;
  await act(() => asked.rename(title));
  tabs.tell(api.base, asked.id);
  sessions.load();
}

async function fork() {
  await act(async () => {
    const made = await current.fork();
    sessions.note(made);
    sessions.load();
    location.hash = made.id;
    announce("The conversation was forked. This is the new one.");
  });
}

async function remove() {
  const asked = current;
  if (!(await askToDelete(byId("title").textContent, sessions.isOwn))) return;
  await act(async () => {
    await asked.remove();
    sessions.remove(asked.id);
    conversations.delete(asked.id);
    tabs.tell(api.base, asked.id, true);
    newChat();
    announce("The conversation was deleted.");
  });
}

async function copyId() {
  const done = await copy(current.id);
  announce(done ? "The session id was copied." : "The browser does not let this page copy.");
  byId("copy-id-icon").setAttribute("href", done ? "#i-check" : "#i-copy");
  setTimeout(() => byId("copy-id-icon").setAttribute("href", "#i-copy"), 1500);
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
  if (event.key !== "Escape" || document.querySelector("dialog[open]") || !current.turn) return;
  current.stop();
}

for (const [id, listener] of Object.entries({
  "new-chat": newChat, "open-settings": openSettings, rename, fork, delete: remove, "copy-id": copyId,
  "more-sessions": () => sessions.more(), older: () => act(() => current.loadOlder()),
  sessions: ({ target }) => { if (target.closest("a")) closeDrawer(); }, // the open one's link too
  "notice-go": tryAgain, "notice-stop": giveUp,
})) {
  byId(id).addEventListener("click", listener);
}
for (const text of STARTERS) {
  const button = make("button", { type: "button", className: "starter", textContent: text });
  button.addEventListener("click", () => { composer.focus(); act(() => current.ask(text)); });
  byId("starters").append(make("li", {}, button));
}
addEventListener("hashchange", () => open(location.hash.slice(1)));
addEventListener("storage", ({ key }) => { // another tab wrote it
  if (key?.startsWith("hermes-sessions")) sessions.load();
  const isOther = JSON.stringify(readSettings()) !== JSON.stringify(settings);
  if (isOther && !current.turn) start();
});
document.addEventListener("keydown", onEscape);
setUpTheme();
setUpDrawer();
start();
