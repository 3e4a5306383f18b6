// How a tab learns what others have done: tabs of this browser tell each other at once; for the rest
// the open conversation is looked at when the tab is, and every few seconds while it is in sight.

const EVERY = 5_000;

/** Calls `changed({base, id, gone})` for what another tab did, and `look()` when it is time to look. */
export class Tabs {
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("hermes-chat") : null;

  constructor({ changed, look }) {
    this.#channel?.addEventListener("message", ({ data }) => changed(data));
    const lookIfSeen = () => { if (document.visibilityState === "visible") look(); };
    document.addEventListener("visibilitychange", lookIfSeen);
    addEventListener("focus", lookIfSeen);
    addEventListener("online", lookIfSeen);
    setInterval(lookIfSeen, EVERY);
  }

  /** Tells the others that a conversation was changed, renamed or deleted. */
  tell(base, id, gone = false) {
    this.#channel?.postMessage({ base, id, gone });
  }
}
