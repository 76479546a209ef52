// The videos of an item, played as one, beside the first frame.

import { element } from "./element.js";
import { Together } from "./together.js";
import { RATE, TOGETHER } from "./words.js";

const AGAIN = 3000;

export class Stage {
  element;
  #together;
  #timers = new Set();

  /** `item`: as the server gives it. */
  constructor(item) {
    const names = item.videos === 2 ? [RATE.left, RATE.right] : [RATE.video];
    const players = names.map((name, number) => this.#player(`media/${item.id}/${number}.mp4`, name));
    this.#together = new Together(players.map((each) => each.video), TOGETHER);
    const frame = element("img", { src: `media/${item.id}/first-frame.png`, alt: RATE.frame });
    this.element = element(
      "div", { class: "stage" },
      element("div", { class: item.videos === 2 ? "pair" : "one" }, ...players.map((each) => each.figure)),
      element("figure", { class: "frame" }, frame, element("figcaption", {}, RATE.frame)),
      this.#together.controls,
    );
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (!still) this.#begin(players.map((each) => each.video));
  }

  toggle() {
    this.#together.toggle();
  }

  close() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = null;
    this.#together.close();
  }

  async #begin(videos) {
    await Promise.all(videos.map((video) => new Promise((done) =>
      video.addEventListener("canplay", done, { once: true }))));
    if (this.#timers && videos.every((video) => video.paused)) this.#together.toggle();
  }

  #player(src, name) {
    const video = element("video", { src, playsinline: true, preload: "auto", "aria-label": name });
    video.muted = true;
    const wrong = element("p", { class: "wrong", role: "alert" });
    video.addEventListener("error", () => {
      if (!this.#timers) return;
      wrong.textContent = RATE.broken;
      this.#timers.add(setTimeout(() => video.load(), AGAIN));
    });
    video.addEventListener("loadeddata", () => (wrong.textContent = ""));
    const caption = name === RATE.video ? null : element("figcaption", {}, name);
    return { video, figure: element("figure", {}, video, caption, wrong) };
  }
}
