// Loads the page again where one of its files did not come, as when the network changes meanwhile:
// it would stay empty.

const WAIT = 1000;

addEventListener("error", (event) => {
  // Not of a picture or a video, nor of a program, whose target is the window.
  const lost = event.target instanceof Element && event.target.matches("script, link[rel=stylesheet]");
  if (lost) setTimeout(() => location.reload(), WAIT);
}, true);
