// What the video would take, told before it is sent.

import * as api from "./api.js";
import { element } from "./element.js";
import { FORECAST, duration } from "./words.js";

const QUIET_MS = 250;
const AGAIN_MS = 10_000;

export class Forecast {
  element = element("p", { class: "forecast", role: "status", "aria-label": FORECAST.label });
  #read;
  #wrong;
  #timer = null;
  #asked = null;

  /** `read()`: the request's fields. `wrong(fault)`: a field that the service refuses. */
  constructor(read, wrong) {
    this.#read = read;
    this.#wrong = wrong;
  }

  /** The fields changed: ask once they rest. */
  change(wait = QUIET_MS) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), wait);
  }

  close() {
    clearTimeout(this.#timer);
    this.#asked?.abort();
  }

  async #ask() {
    this.#asked?.abort();
    this.#asked = new AbortController();
    try {
      if (!document.hidden) this.#show(tell(await api.estimate(this.#read(), this.#asked.signal)));
    } catch (fault) {
      if (fault.name === "AbortError") return;
      this.#show("");
      this.#wrong(fault);
      if (fault.param) return; // Refused until a field changes.
    }
    if (this.element.isConnected) this.change(AGAIN_MS);
  }

  #show(text) {
    // Screen readers say a region again whenever it is written.
    if (this.element.textContent !== text) this.element.textContent = text;
  }
}

function tell(estimate) {
  const { predicted_seconds: work, starts_in_seconds: starts, queue_position: place, cost } = estimate;
  const parts = [FORECAST.work(duration(work))];
  if (starts === null) parts.push(FORECAST.nobody);
  else parts.push(starts < 1 ? FORECAST.now : FORECAST.later(duration(starts)));
  if (place > 1 || starts === null) parts.push(FORECAST.place(place));
  if (cost !== null) parts.push(FORECAST.cost(cost.toLocaleString(undefined, { maximumSignificantDigits: 2 })));
  const text = parts.join(" · ");
  return text[0].toUpperCase() + text.slice(1);
}
