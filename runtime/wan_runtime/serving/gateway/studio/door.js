// Asks for the API key.

import * as api from "./api.js";
import { element } from "./element.js";
import { Field } from "./field.js";
import { keep } from "./session.js";
import { DOOR } from "./words.js";

/** `entered(models)`: the key is known. `fault`: why the last one was forgotten. */
export function door(entered, fault = null) {
  const input = element("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  const key = new Field(DOOR.key, input, { hint: DOOR.about });
  const form = element(
    "form", { class: "door", novalidate: true, "aria-labelledby": "door" },
    element("h2", { id: "door" }, DOOR.heading), key.element,
    element("button", { type: "submit", class: "main" }, DOOR.enter),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    key.clear();
    if (!key.text) return key.show(DOOR.missing);
    // A header takes no other characters.
    if (!/^[\x21-\x7e]+$/.test(key.text)) return key.show(DOOR.characters);
    try {
      const { data } = await api.models(key.text);
      keep(key.text);
      entered(data);
    } catch (wrong) {
      key.show(wrong.message);
    }
  });
  if (fault) key.show(fault.message, false);
  return form;
}
