// Videos that play as one.

import { button, element } from "./element.js";

const DRIFT = 0.04; // Seconds that one may be off; about one frame.

export class Together {
  button;
  controls;
  #players;
  #words;
  #frame = null;
  #playing = false; // A video that has ended is paused, too.
  #position;

  /** `players`: <video> elements. `words`: `play`, `pause` and `position`. */
  constructor(players, words) {
    this.#players = players;
    this.#words = words;
    this.button = button(words.play, () => this.toggle());
    this.#position = element("input", { type: "range", min: 0, max: 1, step: 0.001, value: 0, "aria-label": words.position });
    this.#position.addEventListener("input", () => this.#seek(this.#position.valueAsNumber * this.#length));
    this.controls = element("div", { class: "controls" }, this.button, this.#position);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    for (const player of this.#players) {
      player.pause();
      player.removeAttribute("src");
      player.load();
    }
  }

  /** Plays, or pauses, all of them. */
  async toggle() {
    this.#set(!this.#playing);
    if (!this.#playing) {
      this.#players.forEach((player) => player.pause());
      this.#seek(this.#leader.currentTime);
      return;
    }
    this.#seek(this.#leader.ended ? 0 : this.#leader.currentTime);
    await Promise.all(this.#players.map((player) => player.play().catch(() => {})));
    this.#follow();
  }

  get #length() {
    return this.#leader.duration || 1;
  }

  /** The longest one. */
  get #leader() {
    return this.#players.reduce((most, player) => (player.duration > most.duration ? player : most));
  }

  #seek(time) {
    for (const player of this.#players) player.currentTime = Math.min(time, player.duration || 0);
  }

  #follow() {
    cancelAnimationFrame(this.#frame);
    const leader = this.#leader;
    for (const player of this.#players) {
      const off = Math.abs(player.currentTime - leader.currentTime) > DRIFT;
      if (off && !player.ended && leader.currentTime < player.duration) player.currentTime = leader.currentTime;
    }
    this.#position.value = leader.currentTime / this.#length;
    if (this.#playing && leader.ended) {
      this.#seek(0);
      this.#players.forEach((player) => player.play().catch(() => {}));
    }
    if (leader.paused) this.#set(false); // By the browser, or its media keys.
    if (this.#playing) this.#frame = requestAnimationFrame(() => this.#follow());
  }

  #set(playing) {
    this.#playing = playing;
    this.button.textContent = playing ? this.#words.pause : this.#words.play;
  }
}
