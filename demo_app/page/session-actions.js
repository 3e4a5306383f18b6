// What the menus and buttons do to a conversation, open or not.

import { announce, byId, copy, icon, make } from "./dom.js";
import { Menu } from "./menu.js";
import { titleOf } from "./session-list.js";
import { buttonOf } from "./session-list-view.js";

/**
 * Acts on conversations by their id.
 *
 * `page` has what there is now (`api`, `sessions`, `current`, `conversations`), `act(doing)`, which says
 * what fails, `use(module, doing)`, `tell(id, gone)` for other tabs, `newChat()`, and `forget(id)` for what was written.
 */
export class SessionActions {
  #page;
  #menu = new Menu(byId("menu"));
  #options = new Menu(byId("options-menu"));

  constructor(page) {
    this.#page = page;
  }

  /** Opens the menu of a row, at its last item where `last` is true. */
  openMenu(id, { last }) {
    this.#menu.open(() => buttonOf(id), this.#itemsOf(id), { last });
  }

  /** Opens the menu of the open conversation, which has on a narrow window what stands in the bar else. */
  openOptions({ last }) {
    const { id } = this.#page.current;
    const [rename, ...others] = this.#itemsOf(id);
    this.#options.open(() => byId("options"), [
      rename,
      { label: "Fork", name: "fork", act: () => this.fork(id) },
      { label: "Session id", name: "id", act: () => this.showId() },
      ...others,
    ], { last });
  }

  /** Shows the open conversation's id beside its button, or hides it. */
  showId() {
    const button = byId("show-id");
    const panel = byId("id-panel") ?? button.parentElement.appendChild(panelOf(() => this.#page.current.id));
    button.popoverTargetElement = panel; // which opens and closes it from now on
    panel.showPopover();
  }

  #itemsOf(id) {
    const { sessions } = this.#page;
    const { pinned, archived } = sessions.find(id) ?? {};
    const marks = [
      { label: pinned ? "Unpin" : "Pin", name: "pin", act: () => this.#mark(id, { pinned: !pinned }) },
      { label: archived ? "Unarchive" : "Archive", name: "archive", act: () => this.#mark(id, { archived: !archived }) },
    ];
    return [
      { label: "Rename", name: "edit", act: () => this.rename(id) },
      ...(sessions.canMark ? marks : []),
      { label: "Export", name: "download", act: () => this.#export(id) },
      { label: "Delete", name: "trash", act: () => this.remove(id), isDanger: true },
    ];
  }

  async rename(id) {
    const { api, sessions } = this.#page;
    const title = await this.#page.use("./dialogs.js", ({ askTitle }) => askTitle(this.#titleOf(id)));
    if (!title) return;
    await this.#page.act(async () => {
      const open = this.#open(id);
      if (open) await open.rename(title);
      else await api.rename(id, title);
      if (sessions.find(id)) sessions.note({ id, title });
    });
    this.#page.tell(id);
    sessions.load();
  }

  async remove(id) {
    const { api, sessions, conversations } = this.#page;
    const isSure = await this.#page.use("./dialogs.js", ({ askToDelete }) => askToDelete(this.#titleOf(id), sessions.isOwn));
    if (!isSure) return;
    await this.#page.act(async () => {
      const open = this.#open(id);
      if (open) await open.remove();
      else await api.remove(id);
      sessions.remove(id);
      conversations.delete(id);
      this.#page.tell(id, true);
      if (this.#page.current.id === id) this.#page.newChat();
      else byId("new-chat").focus(); // the button that was pressed is gone
      this.#page.forget(id);
      announce("The conversation was deleted.");
    });
  }

  async fork(id) {
    const { sessions } = this.#page;
    await this.#page.act(async () => {
      const made = await this.#open(id).fork();
      sessions.note(made);
      sessions.load();
      location.hash = made.id;
      announce("The conversation was forked. This is the new one.");
    });
  }

  async #mark(id, marks) {
    const { sessions } = this.#page;
    await this.#page.act(async () => {
      await sessions.mark(id, marks);
      announce(saidOf(marks));
      // Where its row has gone from the list the focus would be lost.
      (buttonOf(id) ?? byId("archived")).focus();
    });
  }

  async #export(id) {
    const { api } = this.#page;
    const title = this.#titleOf(id);
    await this.#page.use("./export.js", ({ asMarkdown, readAll, save }) => this.#page.act(async () => {
      save(title, asMarkdown(title, await readAll(api, id)));
      announce("The conversation was exported.");
    }));
  }

  /** Returns the conversation where it is known to this page. */
  #open(id) {
    const { current, conversations } = this.#page;
    return current.id === id ? current : conversations.get(id);
  }

  #titleOf(id) {
    const known = this.#page.sessions.find(id);
    return this.#page.current.id === id ? byId("title").textContent : titleOf(known ?? {});
  }
}

function panelOf(idOf) {
  const code = make("code", { id: "session-id" });
  const button = make("button", { type: "button" }, icon("copy"), "Copy the session id");
  button.addEventListener("click", async () => {
    const done = await copy(idOf());
    announce(done ? "The session id was copied." : "The browser does not let this page copy.");
    button.firstChild.replaceWith(icon(done ? "check" : "copy"));
    setTimeout(() => button.firstChild.replaceWith(icon("copy")), 1500);
  });
  const panel = make("div", { id: "id-panel", className: "panel", role: "group", "aria-label": "Session id", popover: "auto" },
    make("p", { className: "hint", textContent: "Who has this id can go on with the conversation, by the page or the API." }),
    make("p", {}, code), button);
  panel.addEventListener("beforetoggle", () => { code.textContent = idOf(); });
  return panel;
}

function saidOf({ pinned, archived }) {
  if (archived === undefined) return pinned ? "The conversation was pinned." : "It is not pinned any more.";
  return archived ? "The conversation was archived." : "It is not archived any more.";
}
