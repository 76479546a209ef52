// The form that makes a video.

import * as api from "./api.js";
import { button, element } from "./element.js";
import { Field } from "./field.js";
import { Forecast } from "./forecast.js";
import { Example } from "./example.js";
import { Picture } from "./picture.js";
import { Settings } from "./settings.js";
import { speak } from "./speak.js";
import { ASK, IDEAS, PICTURE } from "./words.js";

export class Ask {
  #models;
  #model;
  #forecast;
  #attempt = null;
  #picture;
  #settings = new Settings();
  #example = new Example();
  #prompt;
  #wrong = element("p", { class: "wrong", role: "alert" });
  #send = element("button", { type: "submit", class: "main" }, ASK.submit);

  /** `models`: of /v1/models, the service's own first. `made(video)`: one was queued. */
  constructor(models, made) {
    const limits = models[0].settings; // All models have the service's.
    this.#models = models;
    this.made = made;
    this.#picture = new Picture(limits);
    this.#prompt = new Field(
      ASK.prompt, element("textarea", { rows: 3 }),
      { hint: ASK.prompt_hint(limits.max_prompt_characters) },
    );
    this.#model = new Field(ASK.model, this.#choice(), { extra: this.#example.element });
    this.#model.element.hidden = models.length < 2;
    this.#forecast = new Forecast(() => this.#fields(), (fault) => this.#blame(fault, false));
    this.element = element(
      "form", { class: "ask", novalidate: true, "aria-labelledby": "ask" },
      element("h2", { id: "ask" }, ASK.heading),
      this.#picture.element, this.#model.element, this.#prompt.element, this.#ideas(),
      this.#settings.element, this.#settings.advanced,
      this.#forecast.element, this.#wrong, this.#send,
      element("p", { class: "hint" }, ASK.keys),
    );
    this.element.addEventListener("submit", (event) => this.#submit(event));
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.element.requestSubmit();
    });
    this.element.addEventListener("input", () => this.#change());
    this.element.addEventListener("picture", () => {
      this.#settings.fit(this.#picture.ratio);
      this.#change();
    });
    this.#choose();
  }

  close() {
    this.#forecast.close();
    this.#example.close();
  }

  /** Go on from a frame of a video. */
  start(frame) {
    this.#picture.take(frame, PICTURE.frame);
    this.element.scrollIntoView();
    this.#prompt.control.focus();
  }

  #choice() {
    const options = this.#models.map((model) =>
      element("option", { value: model.id, disabled: !model.available }, model.effect ? model.id : ASK.none));
    return element("select", { onchange: () => this.#choose() }, ...options);
  }

  #choose() {
    const model = this.#models.find((each) => each.id === this.#model.text);
    this.#settings.suit(model);
    this.#settings.fit(this.#picture.ratio);
    this.#example.show(model);
    this.#change();
  }

  #change() {
    this.#attempt = null;
    for (const field of this.#all()) field.clear();
    this.#wrong.textContent = "";
    this.#picture.shape(this.#settings.size.text);
    this.#forecast.change();
  }

  #ideas() {
    const list = element("ul", { class: "ideas", "aria-label": ASK.ideas });
    for (const [name, text] of IDEAS) {
      const use = () => {
        this.#prompt.control.value = text;
        this.#prompt.control.focus();
        this.#change();
      };
      list.append(element("li", {}, button(name, use, { title: text })));
    }
    return list;
  }

  #fields() {
    return { model: this.#model.text, prompt: this.#prompt.text, ...this.#settings.read() };
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#send.getAttribute("aria-disabled")) return;
    if (!this.#picture.file) return this.#picture.field.show(PICTURE.missing);
    this.#busy(true);
    // Sent again unchanged after a lost answer, it makes no second video.
    this.#attempt ??= crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    try {
      const video = await api.create(this.#fields(), this.#picture.file, this.#attempt);
      this.#attempt = null;
      speak(ASK.sent);
      this.made(video);
      this.#forecast.change(0);
    } catch (fault) {
      this.#blame(fault, true);
    } finally {
      this.#busy(false);
    }
  }

  #busy(busy) {
    // Not `disabled`: that would take the focus away.
    if (busy) this.#send.setAttribute("aria-disabled", "true");
    else this.#send.removeAttribute("aria-disabled");
    this.#send.textContent = busy ? ASK.busy : ASK.submit;
  }

  /** Say what is wrong at its field. Not asked for, it is said without moving the focus. */
  #blame(fault, focus) {
    const field = this.#named()[(fault.param ?? "").split(/[.[]/)[0]];
    if (!field) this.#wrong.textContent = fault.message;
    else field.show(fault.message, focus);
  }

  #named() {
    return {
      input_reference: this.#picture.field, prompt: this.#prompt, model: this.#model,
      ...this.#settings.fields,
    };
  }

  #all() {
    return new Set(Object.values(this.#named()));
  }
}
