// Loaded before the page is painted, so that it does not flash in the other colours.
try {
  const theme = localStorage.getItem("hermes-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Where storage is forbidden the system's colours do.
}
