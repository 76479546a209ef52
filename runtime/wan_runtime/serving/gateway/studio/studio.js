// The page: a door, then the form beside the gallery.

import * as api from "./api.js";
import { Ask } from "./ask.js";
import { door } from "./door.js";
import { button, element } from "./element.js";
import { Gallery } from "./gallery.js";
import { forget, key, onLeave } from "./session.js";
import { speaker } from "./speak.js";
import { current, toggle } from "./theme.js";
import { DOOR, THEME, TITLE } from "./words.js";

const main = element("main");
const leave = button(DOOR.leave, () => forget());
let shown = [];

function enter(models) {
  const gallery = new Gallery((frame) => ask.start(frame));
  const ask = new Ask(models, (video) => gallery.add(video));
  show([ask, gallery]);
  gallery.load();
}

function shut(fault = null) {
  show([{ element: door(enter, fault), close() {} }]);
  main.querySelector("input").focus();
}

function show(parts) {
  for (const part of shown) part.close();
  shown = parts;
  leave.hidden = parts.length === 1;
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  main.replaceChildren(...parts.map((part) => part.element));
}

function shade() {
  const name = () => (current() === "dark" ? THEME.light : THEME.dark);
  const made = button(name(), () => {
    toggle();
    made.textContent = name();
  });
  return made;
}

document.body.append(
  element("header", {}, element("h1", {}, TITLE), element("div", { class: "actions" }, shade(), leave)),
  main, speaker(),
);
onLeave(shut);
try {
  if (key()) enter((await api.models()).data);
  else shut();
} catch (fault) {
  // A key that is not known has shown the door already.
  if (fault.code !== "invalid_api_key") shut(fault);
}
