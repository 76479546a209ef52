// Questions in front of the page: the browser keeps the focus inside, and Escape closes them.

import * as api from "./api.js";
import { button, element, fresh } from "./element.js";
import { Field } from "./field.js";
import { final } from "./follow.js";
import { COMMON, REMIX, REMOVE, short } from "./words.js";

/** Opens; is removed once closed, when `closed()` is called. */
export function open(heading, content, { wide = false, closed = () => {} } = {}) {
  const id = fresh("heading");
  const dialog = element(
    "dialog", { "aria-labelledby": id, class: wide ? "wide" : false },
    element("h2", { id }, heading), ...content,
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks, deletes, then calls `done()`. */
export function askRemoval(video, done) {
  const wrong = element("p", { class: "wrong", role: "alert" });
  const yes = button(REMOVE.yes, async () => {
    try {
      await api.remove(video.id);
      dialog.close();
      done();
    } catch (fault) {
      wrong.textContent = fault.message;
    }
  }, { class: "danger" });
  const no = button(COMMON.cancel, () => dialog.close(), { autofocus: true });
  const dialog = open(REMOVE.heading, [
    element("p", { class: "quote" }, short(video.prompt)),
    element("p", {}, REMOVE.about),
    final(video) ? null : element("p", {}, REMOVE.stop),
    wrong,
    element("div", { class: "actions" }, no, yes),
  ]);
}

/** Asks for a prompt, then calls `made(video)` with the remix. */
export function askRemix(video, made) {
  const prompt = new Field(REMIX.prompt, element("textarea", { rows: 4, value: video.prompt }));
  const send = element("button", { type: "submit", class: "main" }, REMIX.send);
  const form = element(
    "form", { novalidate: true }, element("p", { class: "hint" }, REMIX.about), prompt.element,
    element("div", { class: "actions" }, button(COMMON.back, () => dialog.close()), send),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    prompt.clear();
    send.disabled = true;
    try {
      const remix = await api.remix(video.id, prompt.text);
      dialog.close();
      made(remix);
    } catch (fault) {
      prompt.show(fault.message);
    }
    send.disabled = false;
  });
  const dialog = open(REMIX.heading, [form]);
  prompt.control.focus();
}
