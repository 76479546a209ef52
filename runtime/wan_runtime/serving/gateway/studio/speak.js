// What happens out of sight is said to screen readers, and shown for a moment.

import { element } from "./element.js";

const SHOWN_MS = 6000;
const region = element("div", { class: "spoken", role: "status", "aria-live": "polite" });

export const speaker = () => region;

export function speak(text) {
  const said = element("p", {}, text);
  region.append(said);
  setTimeout(() => said.remove(), SHOWN_MS);
}
