// Light or dark: as the system has it, until the user chooses.

const STORED = "wan-theme";
const root = document.documentElement;

export function current() {
  if (root.dataset.theme) return root.dataset.theme;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export function toggle() {
  root.dataset.theme = current() === "dark" ? "light" : "dark";
  localStorage.setItem(STORED, root.dataset.theme);
  return root.dataset.theme;
}

const stored = localStorage.getItem(STORED);
if (stored === "dark" || stored === "light") root.dataset.theme = stored;
