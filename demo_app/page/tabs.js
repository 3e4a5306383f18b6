// How a tab learns what others have done: tabs of this browser tell each other at once; for other
// devices the open conversation is looked at whenever somebody comes back to the tab.

/**
 * Calls `changed({base, id, gone})` for what another tab did, `look()` when somebody looks at this
 * one, `away()` when nobody does any more, and `online()` when there is a network again.
 */
export class Tabs {
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("hermes-chat") : null;

  constructor({ changed, look, away, online }) {
    const lookIfSeen = () => { if (this.isSeen) look(); };
    this.#channel?.addEventListener("message", ({ data }) => changed(data));
    document.addEventListener("visibilitychange", () => (this.isSeen ? look() : away()));
    addEventListener("focus", lookIfSeen);
    addEventListener("online", () => { online(); lookIfSeen(); });
  }

  /** Whether somebody can see the tab. */
  get isSeen() {
    return document.visibilityState === "visible";
  }

  /** Tells the others that something was asked in a conversation, or that it was changed or deleted. */
  tell(base, id, gone = false) {
    this.#channel?.postMessage({ base, id, gone });
  }
}
