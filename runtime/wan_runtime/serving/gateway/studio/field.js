// A labelled control with room for what is wrong with it.

import { element, fresh } from "./element.js";

export class Field {
  #wrong;
  #hint = null;

  /** `control`: what is labelled and gets the focus. */
  constructor(label, control, { hint = null, extra = null } = {}) {
    control.id ||= fresh("field");
    this.control = control;
    this.#wrong = element("p", { class: "wrong", id: fresh("wrong"), role: "alert" });
    this.#wrong.hidden = true;
    if (hint !== null) this.#hint = element("p", { class: "hint", id: fresh("hint") }, hint);
    this.element = element(
      "div", { class: "field" },
      element("label", { for: control.id }, label), control, extra, this.#hint, this.#wrong,
    );
    this.#describe();
  }

  get text() {
    return this.control.value.trim();
  }

  /** The text of a hint that there is. */
  set hint(text) {
    this.#hint.textContent = text;
  }

  show(message, focus = true) {
    this.#wrong.textContent = message;
    this.#wrong.hidden = false;
    this.control.setAttribute("aria-invalid", "true");
    this.#describe();
    this.control.closest("details")?.setAttribute("open", "");
    if (focus) this.control.focus();
  }

  clear() {
    this.#wrong.textContent = "";
    this.#wrong.hidden = true;
    this.control.removeAttribute("aria-invalid");
    this.#describe();
  }

  #describe() {
    const by = [this.#hint?.id, this.#wrong.hidden ? null : this.#wrong.id].filter(Boolean);
    if (by.length) this.control.setAttribute("aria-describedby", by.join(" "));
    else this.control.removeAttribute("aria-describedby");
  }
}
