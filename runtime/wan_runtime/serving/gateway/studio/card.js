// One video of the gallery.

import * as api from "./api.js";
import { askRemix, askRemoval } from "./dialog.js";
import { button, element, fresh } from "./element.js";
import { final } from "./follow.js";
import { Player, download, frameOf } from "./player.js";
import { speak } from "./speak.js";
import { CARD, GALLERY, duration, short } from "./words.js";

export class Card {
  video = null;
  player = null;
  #cancelling = false;
  #choose;
  #events;
  #state = element("span", { class: "state" });
  #where = element("p", { class: "where" });
  #bar = element("progress", { max: 100 });
  #body = element("div", { class: "body" });
  #actions = element("div", { class: "actions" });
  #wrong = element("p", { class: "wrong", role: "alert" });

  /** `events`: {made(video), removed(card), picked(card), start(blob)}. */
  constructor(video, events) {
    this.#events = events;
    const heading = fresh("card");
    this.pick = element("input", { type: "checkbox", onchange: () => events.picked(this) });
    this.pick.setAttribute("aria-label", GALLERY.pick(short(video.prompt)));
    this.#choose = element("label", { class: "check" }, this.pick, GALLERY.compare);
    this.#bar.setAttribute("aria-label", CARD.progress(short(video.prompt)));
    this.element = element(
      "li", { class: "card", "aria-labelledby": heading, "data-id": video.id },
      this.#body,
      element("h3", { id: heading, title: video.prompt }, short(video.prompt)),
      element("p", { class: "facts" }, CARD.facts(video)),
      element("div", { class: "line" }, this.#state, this.#choose),
      this.#where, this.#wrong, this.#actions,
    );
    this.show(video);
  }

  /** The video as it is now. */
  show(video) {
    const before = this.video;
    this.video = video;
    const cancelled = video.error?.code === "cancelled";
    this.element.dataset.status = cancelled ? "cancelled" : video.status;
    this.#state.textContent = cancelled ? CARD.cancelled : CARD.states[video.status];
    this.#bar.value = video.progress;
    const stopping = this.#cancelling && !final(video);
    this.#where.textContent = stopping ? CARD.cancelling : where(video);
    this.#choose.hidden = video.status !== "completed";
    if (before?.status !== video.status) this.#change(video);
    if (before && !final(before) && final(video)) this.#announce(video, cancelled);
  }

  close() {
    this.player?.close();
  }

  fault(message) {
    this.#wrong.textContent = message;
  }

  #change(video) {
    if (video.status === "completed") {
      this.player ??= new Player(video);
      this.#body.replaceChildren(this.player.element);
    } else {
      this.#body.replaceChildren(element("div", { class: "blank" }, final(video) ? null : this.#bar));
    }
    const focused = this.#actions.contains(document.activeElement);
    this.#actions.replaceChildren(...this.#offered(video));
    if (focused) this.#actions.querySelector("button").focus();
  }

  #offered(video) {
    const remove = button(CARD.remove, () => askRemoval(this.video, () => this.#events.removed(this)));
    if (!final(video)) return [button(CARD.cancel, () => this.#cancel()), remove];
    if (video.status === "failed") return [remove];
    return [
      button(CARD.remix, () => askRemix(this.video, this.#events.made)),
      button(CARD.go_on, () => this.#goOn(), { title: CARD.go_on_about }),
      button(CARD.download, () => this.#try(() => download(video.id))),
      remove,
    ];
  }

  #cancel() {
    return this.#try(async () => {
      const video = await api.cancel(this.video.id);
      this.#cancelling = true;
      this.show(video);
    });
  }

  #goOn() {
    return this.#try(async () => {
      if (!this.player.shown) await this.player.play(false);
      const { shown } = this.player;
      if (shown.readyState < 2) await new Promise((done) => shown.addEventListener("loadeddata", done, { once: true }));
      this.#events.start(await frameOf(shown));
    });
  }

  async #try(action) {
    this.fault("");
    try {
      await action();
    } catch (fault) {
      this.fault(fault.message);
    }
  }

  #announce(video, cancelled) {
    const name = short(video.prompt);
    if (video.status === "completed") speak(CARD.done(name));
    else if (!cancelled) speak(CARD.failed(name, video.error.message));
  }
}

/** Where it stands, in words. */
function where(video) {
  if (video.status === "failed") return video.error?.code === "cancelled" ? "" : video.error.message;
  if (video.status === "completed") return "";
  const parts = [];
  if (video.queue_position) parts.push(CARD.place(video.queue_position));
  if (video.stage === "denoising") parts.push(CARD.step(video.step, video.steps));
  else if (video.stage) parts.push(CARD.stages[video.stage] ?? video.stage);
  if (video.eta_seconds !== null) parts.push(CARD.left(duration(video.eta_seconds)));
  return parts.join(" · ");
}
