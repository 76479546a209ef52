// What an effect does: its words and its clip.

import * as api from "./api.js";
import { element } from "./element.js";
import { ASK } from "./words.js";

export class Example {
  element = element("div", { class: "example" });
  #url = null;
  #shown = null;

  async show(model) {
    this.close();
    this.#shown = model.id;
    this.element.replaceChildren();
    if (!model.effect) return;
    if (model.description) this.element.append(element("p", { class: "hint" }, model.description));
    if (/^https?:/.test(model.preview)) {
      // Another host's clip is never loaded by itself.
      this.element.append(element("a", { href: model.preview, target: "_blank", rel: "noreferrer" }, ASK.example));
    } else if (model.preview) {
      const clip = await api.preview(model.id).catch(() => null);
      if (clip && this.#shown === model.id) this.#play(clip);
    }
  }

  close() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
    this.#shown = null;
  }

  #play(clip) {
    this.#url = URL.createObjectURL(clip);
    const video = element("video", { src: this.#url, loop: true, playsinline: true, controls: true, "aria-label": ASK.example });
    video.muted = true;
    this.element.append(video);
  }
}
