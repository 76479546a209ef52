// A thumbnail that becomes a player. Videos need the key, so they are fetched whole and played from
// memory; only a few are held at a time.

import * as api from "./api.js";
import { button, element } from "./element.js";
import { CARD, short } from "./words.js";

const HELD = 4;
const held = [];

export class Player {
  element = element("div", { class: "player" });
  #video;
  #url = null;
  #wrong = element("p", { class: "wrong", role: "alert" });

  /** `video`: a completed one. */
  constructor(video) {
    this.#video = video;
    this.rest();
  }

  /** The `<video>`, while one is shown. */
  get shown() {
    return this.element.querySelector("video");
  }

  /** Only the thumbnail. */
  async rest() {
    this.close();
    const name = CARD.play(short(this.#video.prompt));
    const play = button("", () => this.play(true), { class: "play", "aria-label": name });
    this.element.replaceChildren(play, this.#wrong);
    try {
      play.append(await picture(this.#video.id));
    } catch (fault) {
      this.#wrong.textContent = fault.message;
    }
  }

  async play(start) {
    this.element.setAttribute("aria-busy", "true");
    try {
      const blob = await api.content(this.#video.id, "video");
      this.#hold(URL.createObjectURL(blob));
    } catch (fault) {
      this.#wrong.textContent = fault.message;
      return;
    } finally {
      this.element.removeAttribute("aria-busy");
    }
    const shown = element("video", {
      src: this.#url, controls: true, loop: true, playsinline: true,
      "aria-label": CARD.player(short(this.#video.prompt)),
    });
    this.element.replaceChildren(shown);
    if (start) {
      shown.focus();
      shown.play().catch(() => {});
    }
  }

  close() {
    if (!this.#url) return;
    URL.revokeObjectURL(this.#url);
    this.#url = null;
    held.splice(held.indexOf(this), 1);
  }

  #hold(url) {
    this.close();
    this.#url = url;
    held.push(this);
    if (held.length > HELD) held[0].rest();
  }
}

/** The thumbnail; its bytes are freed once it is decoded. */
async function picture(id) {
  const url = URL.createObjectURL(await api.content(id, "thumbnail"));
  const image = element("img", { src: url, alt: "" });
  try {
    await image.decode();
  } finally {
    URL.revokeObjectURL(url);
  }
  return image;
}

/** The frame that a `<video>` shows, as a PNG. */
export function frameOf(shown) {
  const canvas = element("canvas", { width: shown.videoWidth, height: shown.videoHeight });
  canvas.getContext("2d").drawImage(shown, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** Save the file under the video's id. */
export async function download(id) {
  const url = URL.createObjectURL(await api.content(id, "video"));
  element("a", { href: url, download: `${id}.mp4` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
