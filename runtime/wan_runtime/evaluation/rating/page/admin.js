// How far the raters are, and their links. Nothing says which candidates there are.

import { button, element } from "./element.js";
import { head } from "./head.js";
import { insist } from "./saving.js";
import { send } from "./server.js";
import { ADMIN } from "./words.js";

const PAUSE = 5000;
const list = element("ul", { class: "raters" });
const until = element("p", {});
const saying = element("p", { class: "saying", role: "status" });
const rows = new Map();

class Row {
  #bar = element("progress");
  #count = element("span");

  constructor({ name, token }) {
    const link = new URL(`../../rate/${token}/`, location.href).href;
    this.#bar.ariaLabel = name;
    const copy = button(ADMIN.copy, async () => {
      await navigator.clipboard.writeText(link);
      saying.textContent = ADMIN.copied(name);
    }, { "aria-label": `${ADMIN.copy}: ${name}` });
    this.element = element(
      "li", { class: "card" },
      element("div", {}, element("h3", {}, name), element("a", { href: link, class: "hint" }, ADMIN.link(name))),
      this.#bar, this.#count,
      // Browsers have no clipboard for a page without https.
      navigator.clipboard ? copy : null,
    );
  }

  show({ done, total }) {
    this.#bar.max = total || 1;
    this.#bar.value = done;
    this.#count.textContent = ADMIN.progress(done, total);
  }
}

async function follow() {
  for (;;) {
    const found = await insist(() => send("progress"), (text) => (saying.textContent = text));
    until.textContent = found.raters.every((rater) => rater.done === rater.total)
      ? ADMIN.done : ADMIN.deadline(new Date(found.deadline).toLocaleString());
    for (const rater of found.raters) {
      if (!rows.has(rater.name)) {
        rows.set(rater.name, new Row(rater));
        list.append(rows.get(rater.name).element);
      }
      rows.get(rater.name).show(rater);
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

document.body.append(
  head(),
  element("main", {}, element("h2", {}, ADMIN.heading), until, element("p", { class: "hint" }, ADMIN.about), list, saying),
);
follow().catch((fault) => (saying.textContent = fault.message));
