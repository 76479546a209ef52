// The API key, for as long as the tab is open: sessionStorage and nowhere else.

const STORED = "wan-key";
let left = () => {};

export const key = () => sessionStorage.getItem(STORED);
export const keep = (value) => sessionStorage.setItem(STORED, value);

/** `action(fault)` is called when the key is forgotten; `fault` says why, where the service did. */
export function onLeave(action) {
  left = action;
}

export function forget(fault = null) {
  sessionStorage.removeItem(STORED);
  left(fault);
}
