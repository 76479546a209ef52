// The top of both pages.

import { button, element } from "./element.js";
import { current, toggle } from "./theme.js";
import { THEME, TITLE } from "./words.js";

export function head(...parts) {
  const name = () => (current() === "dark" ? THEME.light : THEME.dark);
  const shade = button(name(), () => {
    toggle();
    shade.textContent = name();
  });
  const actions = parts.filter((part) => part.matches("button"));
  const rest = parts.filter((part) => !part.matches("button"));
  return element(
    "header", {}, element("h1", {}, TITLE), ...rest, element("div", { class: "actions" }, ...actions, shade),
  );
}
