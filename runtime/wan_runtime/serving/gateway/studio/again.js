// Loads the page again where one of its files did not come, as when the network changes meanwhile:
// it would stay empty.

const WAIT = 1000;

addEventListener("error", (event) => {
  // Of a script or style sheet; an error of a program is no event of an element.
  if (event.target instanceof HTMLElement) setTimeout(() => location.reload(), WAIT);
}, true);
