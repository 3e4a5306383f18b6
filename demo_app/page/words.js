// What went wrong, and what to do about it, in words for whoever reads the page.

import { ApiError, isBusy, needsKey } from "./errors.js";

/** By an error's code; the server's own message stands where there are no words here. */
const BY_CODE = {
  __proto__: null,
  body_too_large: "This message is too long for the server. Shorten it, or send it in parts.",
  context_length_exceeded: "This conversation has become too long for the model. Begin a new chat, or choose another model.",
  message_too_large: "This message is too long for the server. Shorten it, or send it in parts.",
  model_not_found: "The server does not have this model. Choose another one.",
  rate_limit_exceeded: "The server is asked too much just now. Wait a moment before you try again.",
  session_conflict: "The conversation was changed elsewhere at the same time. Look at it, and ask again.",
  session_deleted: "This conversation was deleted. Begin a new chat.",
  session_full: "This conversation is as long as the server allows. Go on in a new chat.",
  session_not_found: "There is no such conversation any more. It may have been deleted elsewhere.",
  session_store_unavailable: "The server cannot reach its storage just now. What was stored is safe; try again in a moment.",
};

/** ... and by its status, where it has no words of its own. */
const BY_STATUS = {
  __proto__: null,
  413: BY_CODE.body_too_large,
  429: BY_CODE.rate_limit_exceeded,
  500: "The server failed. Try again; whoever runs it finds the reason in its log.",
  502: "The server behind this address does not answer. Try again in a moment.",
  503: "The server cannot answer just now. Try again in a moment.",
  504: "The server behind this address does not answer in time. Try again in a moment.",
};

/** Returns an error in words. */
export function inWords(error) {
  if (isBusy(error)) return "This conversation is still busy with another question.";
  if (needsKey(error)) return "This server needs an API key, or does not know this one.";
  const { code, status, message } = error;
  if (!(error instanceof ApiError)) return message || "Something went wrong. Try again.";
  if (status === 500) return BY_STATUS[500]; // of which servers say no more than that
  return BY_CODE[code] || message || BY_STATUS[status] || BY_STATUS[500];
}

/** Returns what is said of a response that is no error of an API, such as a proxy's page. */
export function wordsOfStatus(status, base) {
  if (status >= 500 || BY_STATUS[status]) return BY_STATUS[status] ?? BY_STATUS[500];
  return `There is no such API at ${base} (it answered ${status}). Check the address in the settings.`;
}

/** Returns what is said where no response came at all. */
export function wordsOfSilence(base) {
  if (navigator.onLine === false) return "This device is offline. The server cannot be reached.";
  if (new URL(base).origin === location.origin) return "The server cannot be reached. It may have been stopped.";
  return `The server at ${base} cannot be reached, or does not allow pages of ${location.origin}.`;
}
