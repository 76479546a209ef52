// A judgement until the server says that it is stored. It is kept in the browser meanwhile, so that
// neither a reload nor an outage loses it.

import { put } from "./server.js";
import { FAULT } from "./words.js";

const LONGEST = 10;
const stored = (id) => `wan-rating-${id}`;

/** What was chosen of an item and not yet saved: `{answer, sent}`, or null. `sent`: whether it was
 *  to be saved. */
export function draft(id) {
  return JSON.parse(localStorage.getItem(stored(id)) ?? "null");
}

export function keep(id, answer, sent = false) {
  localStorage.setItem(stored(id), JSON.stringify({ answer, sent }));
}

/** Saves, trying again for as long as that may help. `waiting(fault, seconds, now)` is called each
 *  second before it is sent again; `now()` does so at once. Throws Fault where it never will work. */
export async function save(id, answer, waiting) {
  keep(id, answer, true);
  for (let pause = 1; ; pause = Math.min(LONGEST, pause * 2)) {
    try {
      await put(`judgements/${id}`, answer);
      localStorage.removeItem(stored(id));
      return;
    } catch (fault) {
      if (!fault.again) {
        localStorage.removeItem(stored(id));
        throw fault;
      }
      await countdown(pause, (seconds, now) => waiting(fault, seconds, now));
    }
  }
}

/** JSON that `load` gives, however long that takes. `waiting` as in `save`. */
export async function insist(load, waiting) {
  for (let pause = 1; ; pause = Math.min(LONGEST, pause * 2)) {
    try {
      return await load();
    } catch (fault) {
      if (!fault.again) throw fault;
      await countdown(pause, (seconds) => waiting(`${fault.message} ${FAULT.load(seconds)}`));
    }
  }
}

function countdown(seconds, each) {
  return new Promise((done) => {
    let left = seconds;
    const end = () => {
      clearInterval(timer);
      removeEventListener("online", end);
      done();
    };
    const timer = setInterval(() => {
      left -= 1;
      if (left > 0) each(left, end);
      else end();
    }, 1000);
    addEventListener("online", end);
    each(left, end);
  });
}
