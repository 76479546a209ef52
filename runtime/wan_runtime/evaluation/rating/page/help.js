// Keys and rules, in front of the page.

import { button, element, fresh } from "./element.js";
import { HELP } from "./words.js";

export function help(mode) {
  if (document.querySelector("dialog[open]")) return;
  const id = fresh("heading");
  const keys = [...(mode === "Pairs" ? HELP.pairs : HELP.scores), ...HELP.keys];
  const dialog = element(
    "dialog", { "aria-labelledby": id },
    element("h2", { id }, HELP.heading),
    element("p", {}, HELP.about),
    element("dl", { class: "keys" }, ...keys.flatMap(([key, what]) =>
      [element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)])),
    element("div", { class: "actions" }, button(HELP.close, () => dialog.close(), { class: "main" })),
  );
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
}
