// One item after the other, from the first that is not judged.

import { button, element } from "./element.js";
import { head } from "./head.js";
import { help } from "./help.js";
import { Choice, Scores } from "./questions.js";
import { draft, insist, keep, save } from "./saving.js";
import { send } from "./server.js";
import { Stage } from "./stage.js";
import { HELP, RATE, SAVING } from "./words.js";

const main = element("main");
const bar = element("progress", { "aria-label": RATE.progress, value: 0, max: 1 });
const count = element("span");
const saying = element("p", { class: "saying", role: "status" });
let session = null;
let at = 0;
let shown = null;

function say(text, kind = "") {
  saying.dataset.kind = kind;
  if (saying.textContent !== text) saying.textContent = text;
}

function progress() {
  const done = session.items.filter((item) => item.answer).length;
  bar.max = session.items.length || 1;
  bar.value = done;
  count.textContent = RATE.saved(done, session.items.length);
}

/** The next item without an answer behind `index`, else the first; -1: all have one. */
function next(index) {
  const open = (item) => !item.answer;
  const behind = session.items.findIndex((item, i) => i > index && open(item));
  return behind >= 0 ? behind : session.items.findIndex(open);
}

class Page {
  #item;
  #stage;
  #questions;
  #save = button(RATE.save, () => this.save(), { class: "main" });
  #now = button(SAVING.now, () => this.#again?.(), { hidden: true });
  #again = null;
  #busy = false;

  constructor(index) {
    this.#item = session.items[index];
    const kept = draft(this.#item.id);
    const made = session.mode === "Pairs" ? Choice : Scores;
    this.#questions = new made(kept?.answer ?? this.#item.answer, () => {
      keep(this.#item.id, this.#questions.answer);
      say("");
    });
    this.#stage = new Stage(this.#item);
    const name = session.mode === "Pairs" ? RATE.pair : RATE.number;
    main.replaceChildren(
      element("h2", {}, name(index, session.items.length)),
      element("p", { class: "prompt" }, element("b", {}, RATE.prompt), this.#item.prompt),
      this.#stage.element,
      this.#questions.element,
      element(
        "div", { class: "bar" }, this.#save, this.#now, button(RATE.back, back),
        button(RATE.skip, () => skip()), saying,
      ),
    );
    scrollTo(0, 0);
    this.#questions.focus();
    if (kept?.sent && !this.#questions.missing) this.save();
  }

  close() {
    this.#stage.close();
  }

  get busy() {
    return this.#busy;
  }

  /** Returns whether the key was meant for the page. */
  key(key) {
    if (key === " ") this.#stage.toggle();
    else if (key === "Enter") this.save();
    else if (this.#busy) return false;
    else if (key === "b" || key === "B") back();
    else if (key === "n" || key === "N") skip();
    else return this.#questions.key(key);
    return true;
  }

  async save() {
    if (this.#busy) return this.#again?.();
    if (this.#questions.missing) {
      say(this.#questions.missing, "wrong");
      this.#questions.focus();
      return null;
    }
    const answer = this.#questions.answer;
    this.#hold(true);
    say(SAVING.sending);
    try {
      await save(this.#item.id, answer, (fault, seconds, now) => {
        this.#again = now;
        this.#now.hidden = false;
        // Nobody may be there any more to answer. The time may also have been extended.
        const ended = new Date(session.deadline);
        const over = ended < new Date() ? ` ${SAVING.over(ended.toLocaleString())}` : "";
        say(`${fault.message}${over} ${SAVING.again(seconds)}`, "wrong");
      });
    } catch (fault) {
      this.#hold(false);
      this.#questions.focus();
      say(fault.message, "wrong");
      if (fault.status === 410) start(fault.message);
      return null;
    }
    this.#hold(false);
    this.#item.answer = answer;
    progress();
    say(SAVING.saved, "good");
    return go(next(at));
  }

  #hold(busy) {
    this.#busy = busy;
    this.#again = null;
    this.#now.hidden = true;
    this.#save.setAttribute("aria-disabled", busy);
    for (const group of main.querySelectorAll("fieldset")) group.disabled = busy;
  }
}

class Done {
  busy = false;

  constructor() {
    const total = session.items.length;
    const back = button(RATE.back, () => go(total - 1));
    main.replaceChildren(element(
      "div", { class: "notice" }, element("h2", {}, total ? RATE.done : RATE.none),
      total ? element("p", {}, RATE.done_more(total)) : null, total ? back : null, saying,
    ));
    back.focus();
  }

  close() {}

  key(key) {
    if (key !== "b" && key !== "B") return false;
    go(session.items.length - 1);
    return true;
  }
}

function back() {
  go(Math.max(0, at - 1));
}

function skip() {
  const open = next(at);
  go(open >= 0 && open !== at ? open : Math.min(at + 1, session.items.length - 1));
}

/** Shows an item; -1: the end. */
function go(index) {
  if (shown?.busy || index < -1) return;
  if (index === -1 && session.items.some((item) => !item.answer)) return;
  shown?.close();
  at = index === -1 ? session.items.length : index;
  shown = index === -1 ? new Done() : new Page(index);
}

function pressed(event) {
  if (!shown || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const { key, target } = event;
  if (key === "?") help(session.mode);
  // Buttons have keys of their own, and so has the position.
  else if ((key === "Enter" || key === " ") && target.closest("button, a")) return;
  else if (key.startsWith("Arrow") && target.matches("input[type=range]")) return;
  else if (!shown.key(key)) return;
  event.preventDefault();
}

async function start(message = "") {
  shown?.close();
  shown = null;
  main.replaceChildren(element("div", { class: "notice" }, element("h2", {}, RATE.loading), saying));
  say(message, "wrong");
  try {
    session = await insist(() => send("session"), (text) => say(text, "wrong"));
  } catch (fault) {
    main.replaceChildren(element("div", { class: "notice" }, element("h2", {}, fault.message)));
    return;
  }
  progress();
  say(message, "wrong");
  go(next(-1));
}

document.body.append(
  head(element("div", { class: "state" }, bar, count), button(HELP.button, () => session && help(session.mode))), main,
);
addEventListener("keydown", pressed);
start();
