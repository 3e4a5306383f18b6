// A conversation as a file: Markdown, which people and programs read.

import { make } from "./dom.js";
import { textOf } from "./messages-view.js";

const NAMES = { __proto__: null, user: "You", assistant: "Assistant", tool: "Tool", system: "System" };
const PAGE = 500;

/** Reads all messages of a session, the newest page first. */
export async function readAll(api, id) {
  let messages = [];
  for (let before = null; ;) {
    const page = await api.messages(id, before, PAGE);
    messages = [...page.data, ...messages];
    before = page.next_before;
    if (!before) return messages;
  }
}

/** Returns a conversation as Markdown: its title, and each message below who said it. */
export function asMarkdown(title, messages) {
  const parts = messages.map((message) => `## ${NAMES[message.role] ?? message.role}\n\n${textOf(message)}`);
  return `${[`# ${title}`, ...parts].join("\n\n")}\n`;
}

/** Has the browser keep a text as a file that is named after the conversation. */
export function save(title, text) {
  const letters = [...title.replace(/[\p{Cc}\p{Cf}\s\\/:*?"<>|]+/gu, " ").replace(/^[.\s]+/, "").trim()];
  const address = URL.createObjectURL(new Blob([text], { type: "text/markdown;charset=utf-8" }));
  make("a", { href: address, download: `${letters.slice(0, 80).join("") || "conversation"}.md` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
