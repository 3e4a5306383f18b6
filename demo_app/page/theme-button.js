// The system's colours, or light, or dark. theme.js brings the choice back before the page is painted.

import { byId } from "./dom.js";

const NAMES = { system: "System", light: "Light", dark: "Dark" };
const NEXT = { system: "light", light: "dark", dark: "system" };

export function setUpTheme() {
  const root = document.documentElement;
  const show = (theme) => {
    byId("theme-name").textContent = NAMES[theme];
    byId("theme").setAttribute("aria-label", `Colours: ${NAMES[theme]}`);
  };
  show(root.dataset.theme ?? "system");
  byId("theme").addEventListener("click", () => {
    const theme = NEXT[root.dataset.theme ?? "system"];
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      localStorage.setItem("hermes-theme", theme);
    } catch {
      // It holds until the page is closed.
    }
    show(theme);
  });
}
