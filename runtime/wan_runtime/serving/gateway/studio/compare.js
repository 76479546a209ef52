// Two videos side by side, played as one.

import * as api from "./api.js";
import { open } from "./dialog.js";
import { button, element } from "./element.js";
import { COMMON, COMPARE, short } from "./words.js";

const DRIFT = 0.04; // Seconds that the second may be off; about one frame.

/** `videos`: two completed ones. */
export async function compare(videos) {
  const blobs = await Promise.all(videos.map((video) => api.content(video.id, "video")));
  const urls = blobs.map((blob) => URL.createObjectURL(blob));
  const names = [COMPARE.first, COMPARE.second];
  const players = urls.map((src, i) => {
    const player = element("video", { src, playsinline: true, "aria-label": `${names[i]}: ${short(videos[i].prompt)}` });
    player.muted = true;
    return player;
  });
  const pair = new Pair(players);
  const figures = players.map((player, i) =>
    element("figure", {}, player, element("figcaption", {}, short(videos[i].prompt))));
  const shut = button(COMMON.close, () => dialog.close());
  const dialog = open(
    COMPARE.heading,
    [element("div", { class: "pair" }, ...figures), pair.controls, element("div", { class: "actions" }, shut)],
    {
      wide: true,
      closed: () => {
        pair.close();
        urls.forEach((url) => URL.revokeObjectURL(url));
      },
    },
  );
  pair.toggleButton.focus();
}

class Pair {
  toggleButton = button(COMPARE.play, () => this.#toggle());
  #players;
  #frame = null;
  #position = element("input", { type: "range", min: 0, max: 1, step: 0.001, value: 0, "aria-label": COMPARE.position });

  constructor(players) {
    this.#players = players;
    this.#position.addEventListener("input", () => this.#seek(this.#position.valueAsNumber * this.#length));
    this.controls = element("div", { class: "controls" }, this.toggleButton, this.#position);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    for (const player of this.#players) {
      player.pause();
      player.removeAttribute("src");
    }
  }

  /** Of the longer one, which leads. */
  get #length() {
    return this.#leader.duration || 1;
  }

  get #leader() {
    const [first, second] = this.#players;
    return second.duration > first.duration ? second : first;
  }

  #seek(time) {
    for (const player of this.#players) player.currentTime = Math.min(time, player.duration || 0);
  }

  async #toggle() {
    if (!this.#leader.paused) {
      this.#players.forEach((player) => player.pause());
      this.#seek(this.#leader.currentTime);
    } else {
      if (this.#leader.ended) this.#seek(0);
      this.#seek(this.#leader.currentTime);
      await Promise.all(this.#players.map((player) => player.play().catch(() => {})));
      this.#follow();
    }
    this.#tell();
  }

  #follow() {
    cancelAnimationFrame(this.#frame);
    const leader = this.#leader;
    for (const player of this.#players) {
      const off = Math.abs(player.currentTime - leader.currentTime) > DRIFT;
      if (off && !player.ended && leader.currentTime < player.duration) player.currentTime = leader.currentTime;
    }
    this.#position.value = leader.currentTime / this.#length;
    if (leader.ended) {
      this.#seek(0);
      this.#players.forEach((player) => player.play().catch(() => {}));
    }
    if (!leader.paused || leader.ended) this.#frame = requestAnimationFrame(() => this.#follow());
  }

  #tell() {
    this.toggleButton.textContent = this.#leader.paused ? COMPARE.play : COMPARE.pause;
  }
}
