// What can go wrong, and when it is worth another attempt. words.js says it to people.

/** The server could not be reached, or the connection ended before the answer did. */
export class ConnectionLost extends Error {}

/** The server refused; the message is its own, in words. */
export class ApiError extends Error {
  constructor(message, status, code = null, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const ATTEMPTS = 8;
const LONGEST = 30; // seconds

/** Returns the seconds that a Retry-After header asks for, at most a minute; null for none. */
export function secondsOf(header) {
  if (header === null) return null;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 60) : null;
}

/** Returns the seconds until attempt number `attempt` (from 1) is repeated, null for never. */
export function delayAfter(error, attempt) {
  if (attempt > ATTEMPTS) return null;
  // With jitter, so that a server that comes back is not asked by all of its pages at once.
  const backOff = Math.min(2 ** (attempt - 1), LONGEST) * (0.75 + Math.random() / 2);
  if (error instanceof ConnectionLost) return backOff;
  const passes = error instanceof ApiError && [409, 429, 503].includes(error.status);
  return passes && error.retryAfter !== null ? Math.max(error.retryAfter, backOff) : null;
}

/** Tells whether another turn holds the conversation. */
export const isBusy = (error) => error instanceof ApiError && error.code === "session_busy";

/** Tells whether the error came as a part of an answer, which has ended with it. */
export const endsAnswer = (error) => error instanceof ApiError && error.status === 200;

/** Tells whether a server does not know a route at all, or cannot serve it. */
export const isUnsupported = (error) =>
  error instanceof ApiError && [404, 405, 501].includes(error.status) && !error.code?.startsWith("session");

/** Tells whether there is no API key, or a wrong one. */
export const needsKey = (error) => error instanceof ApiError && error.status === 401;
