// Size, length and what stands under "Advanced": empty means the model's own.

import { element } from "./element.js";
import { Field } from "./field.js";
import { ASK } from "./words.js";

const STRIDE = 4; // Frames of a latent frame.
const ALIKE = 0.05; // Shapes whose ratios differ by a twentieth at most.

export class Settings {
  #model = null;
  #isChosen = false; // The size, by somebody.
  #adapters = [];
  #list;

  constructor() {
    this.size = new Field(ASK.size, element("select"));
    this.size.control.addEventListener("change", () => (this.#isChosen = true));
    this.seconds = new Field(ASK.seconds, number(0.1), { hint: "" });
    this.steps = new Field(ASK.steps, number(1));
    this.guidance = new Field(ASK.guidance, number(0.1));
    this.guidanceLow = new Field(ASK.guidance_low, number(0.1));
    this.seed = new Field(ASK.seed, element("input", { type: "text", inputmode: "numeric", placeholder: ASK.seed_hint }));
    this.avoid = new Field(ASK.negative_prompt, element("textarea", { rows: 2 }));
    this.#list = element("fieldset", {}, element("legend", {}, ASK.adapters));
    this.element = element("div", { class: "row" }, this.size.element, this.seconds.element);
    this.advanced = element(
      "details", {},
      element("summary", {}, ASK.advanced),
      element(
        "div", { class: "grid" },
        this.steps.element, this.guidance.element, this.guidanceLow.element, this.seed.element,
      ),
      this.avoid.element, this.#list,
    );
  }

  /** Fields by the API's `param`. */
  get fields() {
    const adapters = this.#adapters[0]?.strength;
    return {
      size: this.size, seconds: this.seconds, frames: this.seconds, steps: this.steps,
      guidance: this.guidance, guidance_low: this.guidanceLow, seed: this.seed,
      negative_prompt: this.avoid, ...(adapters && { adapters }),
    };
  }

  /** Choose the size nearest to a picture's shape, unless somebody has chosen one. `ratio`: width
   *  over height; null: there is no picture. */
  fit(ratio) {
    if (ratio && !this.#isChosen) this.size.control.value = nearest(this.#model.settings, ratio);
  }

  /** `model`: as /v1/models tells it. */
  suit(model) {
    this.#model = model;
    const { settings } = model;
    const before = this.size.text;
    this.size.control.replaceChildren(
      ...settings.sizes.map((size) => element("option", { value: size }, size.replace("x", " × "))),
    );
    this.#isChosen &&= settings.sizes.includes(before);
    this.size.control.value = this.#isChosen ? before : settings.size;
    const longest = (settings.max_frames - 1) / settings.fps;
    bounds(this.seconds, STRIDE / settings.fps, longest, STRIDE / settings.fps);
    this.seconds.hint = ASK.longest(Number(longest.toFixed(2)));
    hint(this.seconds, Number(((settings.frames - 1) / settings.fps).toFixed(2)));
    hint(this.steps, settings.steps);
    hint(this.guidance, settings.guidance);
    hint(this.guidanceLow, settings.guidance_low);
    hint(this.avoid, settings.negative_prompt);
    this.guidanceLow.element.hidden = settings.guidance_low === null;
    if (!this.#adapters.length) this.#offer(model.adapters);
  }

  /** The request's fields; what is not set is left out. */
  read() {
    const chosen = this.#adapters.filter((each) => each.box.checked);
    const fields = {
      size: this.size.text,
      seconds: numeric(this.seconds), steps: numeric(this.steps),
      guidance: numeric(this.guidance), guidance_low: numeric(this.guidanceLow),
      seed: this.seed.text, negative_prompt: this.avoid.text,
      adapters: chosen.map((each) => ({
        name: each.name,
        ...(each.strength.text && { strength: numeric(each.strength) }),
      })),
    };
    if (this.#model?.settings.guidance_low === null) delete fields.guidance_low;
    return Object.fromEntries(
      Object.entries(fields).filter(([, value]) => value !== "" && value.length !== 0),
    );
  }

  #offer(adapters) {
    this.#list.hidden = adapters.length === 0;
    this.#adapters = adapters.map(({ name, strength, trigger, available, problem }) => {
      const field = new Field(ASK.strength(name), number(0.05, { placeholder: strength }));
      const box = element("input", { type: "checkbox", disabled: !available });
      const text = available ? trigger && ASK.trigger(trigger) : problem;
      const words = text ? element("p", { class: "hint" }, text) : null;
      this.#list.append(
        element("div", { class: "adapter" }, element("label", { class: "check" }, box, name), words, field.element),
      );
      return { name, box, strength: field };
    });
  }
}

/** The offered size whose shape is nearest to a ratio. Of sizes of almost one shape, such as 1280x720
 *  and 832x480, the one with about as many pixels as the model's own. */
function nearest({ size, sizes }, ratio) {
  const [width, height] = size.split("x").map(Number);
  const apart = (a, b) => Math.abs(Math.log(a / b));
  const offered = [size, ...sizes].map((name) => {
    const [across, down] = name.split("x").map(Number);
    return { name, shape: apart(across / down, ratio), pixels: apart(across * down, width * height) };
  });
  const least = Math.min(...offered.map((each) => each.shape));
  const alike = offered.filter((each) => each.shape < least + ALIKE);
  return alike.reduce((best, each) => (each.pixels < best.pixels ? each : best)).name;
}

const number = (step, more = {}) => element("input", { type: "number", step, inputmode: "decimal", ...more });

/** The text of the control: the service says what is wrong with it, so nothing is cut here. */
function numeric(field) {
  const value = field.control.valueAsNumber;
  return Number.isNaN(value) ? "" : value;
}

function bounds(field, min, max, step) {
  Object.assign(field.control, { min, max, step });
}

function hint(field, value) {
  field.control.placeholder = value ?? "";
}
