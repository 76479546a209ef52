// What is answered about an item: scores in four dimensions, or the better of two.

import { element, fresh } from "./element.js";
import { CHOICES, DIMENSIONS, RATE } from "./words.js";

/** Four groups of five levels. */
export class Scores {
  element = element("div", { class: "dimensions" });
  #groups;

  /** `changed()`: called after each choice. */
  constructor(given, changed) {
    this.#groups = DIMENSIONS.map(([name, heading, question, anchors]) => {
      const group = new Group(name, heading, question, anchors.map((text, i) => [i + 1, text, i + 1]));
      group.choose(given?.scores?.[name]);
      group.element.addEventListener("change", changed);
      this.element.append(group.element);
      return group;
    });
    this.changed = changed;
  }

  get answer() {
    const chosen = this.#groups.filter((group) => group.chosen);
    return { scores: Object.fromEntries(chosen.map((group) => [group.name, Number(group.chosen)])) };
  }

  /** What is wrong with the answer; null for nothing. */
  get missing() {
    const open = this.#groups.filter((group) => !group.chosen);
    return open.length ? RATE.missing(open.map((group) => group.heading).join(", ")) : null;
  }

  focus() {
    (this.#groups.find((group) => !group.chosen) ?? this.#groups[0]).focus();
  }

  /** Handles a key. Returns whether it was one of its own; "done" once all is answered by it. */
  key(key) {
    const at = Math.max(0, this.#groups.findIndex((group) => group.element.contains(document.activeElement)));
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const next = at + (key === "ArrowRight" ? 1 : -1);
      this.#groups[(next + this.#groups.length) % this.#groups.length].focus();
      return true;
    }
    if (!/^[1-5]$/.test(key)) return false;
    this.#groups[at].choose(key);
    this.changed();
    if (!this.missing) {
      this.#groups[at].focus();
      return "done";
    }
    (this.#groups.slice(at + 1).find((group) => !group.chosen) ?? this.#groups.find((group) => !group.chosen)).focus();
    return true;
  }
}

/** One group of four choices. */
export class Choice {
  #group = new Group("chosen", RATE.question, null, CHOICES.map(([value, text, keys]) => [value, text, null, keys]));

  constructor(given, changed) {
    this.element = this.#group.element;
    this.#group.choose(given?.chosen);
    this.element.addEventListener("change", changed);
    this.changed = changed;
  }

  get answer() {
    return this.#group.chosen ? { chosen: this.#group.chosen } : {};
  }

  get missing() {
    return this.#group.chosen ? null : RATE.choose;
  }

  focus() {
    this.#group.focus();
  }

  key(key) {
    const arrows = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];
    const number = /^[1-4]$/.test(key) ? Number(key) - 1 : arrows.indexOf(key);
    if (number < 0) return false;
    this.#group.choose(CHOICES[number][0]);
    this.#group.focus();
    this.changed();
    return "done";
  }
}

class Group {
  #radios = [];

  /** `levels`: value, text, number before it or null, keys behind it or nothing. */
  constructor(name, heading, question, levels) {
    this.name = name;
    this.heading = heading;
    const group = fresh(name);
    const rows = levels.map(([value, text, number, keys]) => {
      const radio = element("input", { type: "radio", name: group, value });
      this.#radios.push(radio);
      return element(
        "label", { class: "level" }, radio, number === null ? element("b") : element("b", {}, `${number}`),
        element("span", {}, text, keys ? element("kbd", {}, `  ${keys}`) : null),
      );
    });
    this.element = element(
      "fieldset", { class: "card" }, element("legend", {}, heading),
      question ? element("p", { class: "hint" }, question) : null, ...rows,
    );
  }

  get chosen() {
    return this.#radios.find((radio) => radio.checked)?.value ?? null;
  }

  choose(value) {
    for (const radio of this.#radios) radio.checked = radio.value === `${value}`;
  }

  focus() {
    const radio = this.#radios.find((each) => each.checked) ?? this.#radios[0];
    radio.focus({ preventScroll: true });
    this.element.scrollIntoView({ block: "nearest" });
  }
}
