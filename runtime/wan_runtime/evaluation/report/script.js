// Tables that sort by a column, and players of one clip that play together.
"use strict";

const value = (row, column) => {
  const cell = row.cells[column];
  return cell ? cell.dataset.value ?? cell.textContent : "";
};

const compare = (one, other) => {
  const [a, b] = [Number(one), Number(other)];
  if (one !== "" && other !== "" && !Number.isNaN(a) && !Number.isNaN(b)) return a - b;
  return one.localeCompare(other, undefined, { numeric: true });
};

for (const table of document.querySelectorAll("table[data-sortable]")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const known = (row) => value(row, column) !== "";
      const rows = [...body.rows].sort((one, other) => {
        // What has no value comes last, whichever way.
        if (known(one) !== known(other)) return known(one) ? -1 : 1;
        const found = compare(value(one, column), value(other, column));
        return down ? -found : found;
      });
      body.append(...rows);
    });
  });
}

for (const clip of document.querySelectorAll("[data-players]")) {
  const videos = [...clip.querySelectorAll("video")];
  const button = clip.querySelector("button");
  const name = () => {
    button.textContent = videos.some((each) => !each.paused) ? "Pause all" : "Play all together";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (videos.some((each) => !each.paused)) {
      for (const each of videos) each.pause();
      return;
    }
    const ended = videos.every((each) => each.ended || each.currentTime === 0);
    const time = ended ? 0 : Math.min(...videos.map((each) => each.currentTime));
    for (const each of videos) {
      each.currentTime = time;
      each.play().catch(() => {}); // its controls are still there
    }
  });
  for (const each of videos) for (const event of ["play", "pause", "ended"]) each.addEventListener(event, name);
  name();
}
