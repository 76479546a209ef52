// Two videos side by side, played as one.

import * as api from "./api.js";
import { open } from "./dialog.js";
import { button, element } from "./element.js";
import { Together } from "./together.js";
import { COMMON, COMPARE, short } from "./words.js";

/** `videos`: two completed ones. */
export async function compare(videos) {
  const blobs = await Promise.all(videos.map((video) => api.content(video.id, "video")));
  const urls = blobs.map((blob) => URL.createObjectURL(blob));
  const names = [COMPARE.first, COMPARE.second];
  const players = urls.map((src, i) => {
    const player = element("video", { src, playsinline: true, "aria-label": `${names[i]}: ${short(videos[i].prompt)}` });
    player.muted = true;
    return player;
  });
  const pair = new Together(players, COMPARE);
  const figures = players.map((player, i) =>
    element("figure", {}, player, element("figcaption", {}, short(videos[i].prompt))));
  const shut = button(COMMON.close, () => dialog.close());
  const dialog = open(
    COMPARE.heading,
    [element("div", { class: "pair" }, ...figures), pair.controls, element("div", { class: "actions" }, shut)],
    {
      wide: true,
      closed: () => {
        pair.close();
        urls.forEach((url) => URL.revokeObjectURL(url));
      },
    },
  );
  pair.button.focus();
}
