// The key's videos, the newest first.

import * as api from "./api.js";
import { Card } from "./card.js";
import { compare } from "./compare.js";
import { button, element } from "./element.js";
import { Follower, final } from "./follow.js";
import { speak } from "./speak.js";
import { CARD, GALLERY, short } from "./words.js";

const PAGE = 12;

export class Gallery {
  #cards = new Map();
  #picked = [];
  #last = null;
  #follower = new Follower();
  #start;
  #list = element("ul", { class: "cards" });
  #empty = element("p", { class: "hint" }, GALLERY.empty);
  #wrong = element("p", { class: "wrong", role: "alert" });
  #heading = element("h2", { id: "gallery", tabindex: -1 }, GALLERY.heading);
  #more = button(GALLERY.more, () => this.load());
  #count = element("span", { role: "status" });
  #side = button(GALLERY.side, () => this.#compare(), { class: "main" });
  #tray = element("div", { class: "tray" }, this.#count, this.#side, button(GALLERY.clear, () => this.#clear()));

  /** `start(blob)`: a picture is to be the next first frame. */
  constructor(start) {
    this.#start = start;
    this.#more.hidden = true;
    this.#empty.hidden = true;
    this.#tray.hidden = true;
    this.element = element(
      "section", { class: "gallery", "aria-labelledby": "gallery" },
      this.#heading, this.#empty, this.#list, this.#wrong, this.#more, this.#tray,
    );
  }

  /** The next page. */
  async load() {
    this.#wrong.textContent = "";
    try {
      const page = await api.page(this.#last, PAGE);
      this.#last = page.last_id ?? this.#last;
      this.#more.hidden = !page.has_more;
      for (const video of page.data) this.#list.append(this.#card(video).element);
    } catch (fault) {
      this.#wrong.textContent = fault.message;
    }
    this.#note();
  }

  /** One that was just queued. */
  add(video) {
    this.#list.prepend(this.#card(video).element);
    this.#note();
  }

  close() {
    this.#follower.close();
    for (const card of this.#cards.values()) card.close();
  }

  #card(video) {
    const known = this.#cards.get(video.id);
    if (known) return known;
    const card = new Card(video, {
      made: (made) => this.add(made),
      removed: (gone) => this.#remove(gone),
      picked: (chosen) => this.#pick(chosen),
      start: this.#start,
    });
    this.#cards.set(video.id, card);
    if (!final(video)) {
      this.#follower.follow(
        video.id,
        (now) => card.show(now),
        (fault) => (fault.code === "not_found" ? this.#drop(card) : card.fault(fault.message)),
      );
    }
    return card;
  }

  #remove(card) {
    const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
    this.#drop(card);
    // The focus was on a button that is gone.
    (next?.querySelector("button") ?? this.#heading).focus();
    speak(CARD.gone(short(card.video.prompt)));
  }

  #drop(card) {
    this.#follower.drop(card.video.id);
    this.#cards.delete(card.video.id);
    card.close();
    card.element.remove();
    if (this.#last === card.video.id) this.#last = this.#list.lastElementChild?.dataset.id ?? null;
    this.#picked = this.#picked.filter((each) => each !== card);
    this.#tell();
    this.#note();
  }

  #pick(card) {
    this.#picked = this.#picked.filter((each) => each !== card);
    if (card.pick.checked) this.#picked.push(card);
    // A third one takes the place of the first.
    if (this.#picked.length > 2) this.#picked.shift().pick.checked = false;
    this.#tell();
  }

  #clear() {
    for (const card of this.#picked) card.pick.checked = false;
    const [first] = this.#picked;
    this.#picked = [];
    this.#tell();
    first?.pick.focus();
  }

  #tell() {
    this.#tray.hidden = this.#picked.length === 0;
    this.#side.hidden = this.#picked.length < 2;
    this.#count.textContent = GALLERY.chosen(this.#picked.length);
  }

  async #compare() {
    try {
      await compare(this.#picked.map((card) => card.video));
    } catch (fault) {
      this.#wrong.textContent = fault.message;
    }
  }

  #note() {
    this.#empty.hidden = this.#cards.size > 0;
  }
}
