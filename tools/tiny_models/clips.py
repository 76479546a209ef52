"""The training clips of the tiny models: rendered scenes, a film, photographs in motion.

    MUJOCO_GL=egl python -m tiny_models.clips --out FOLDER --scipy WHEEL [--scale 1.0]

Writes FOLDER/clips/*.mp4 (160x120, 16 frames a second, up to 33 frames) and FOLDER/metadata.csv
with the columns video, prompt, source. One source is one robot, kind of scene, photograph or
recording; those in clip_files.HELD_OUT are trained on by nothing. WHEEL is scipy's of 1.9.3, which
holds a photograph.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from tiny_models.clip_files import Frames, write
from tiny_models.collages import collage, ripples
from tiny_models.objects import objects
from tiny_models.recordings import photographs, pictures, recordings
from tiny_models.robots import robots

ROUNDS = {
    "robots": 10,
    "recordings": 24,
    "photographs": 14,
    "collages": 126,
    "ripples": 72,
    "objects": 280,
}
"""How often each kind is drawn. A round of the first three is a clip of each source."""


def clips(kind: str, number: int, scipy: Path) -> Iterator[tuple[str, str, Frames]]:
    """Source, caption and frames of each clip of one round. A round has a seed of its own."""
    rng = np.random.default_rng([list(ROUNDS).index(kind), number])
    if kind == "robots":
        yield from robots(rng)
    elif kind == "recordings":
        yield from recordings(number, rng)
    elif kind == "objects":
        yield from objects(number, rng)
    else:
        drawn = {"photographs": photographs, "collages": collage, "ripples": ripples}[kind]
        yield from drawn(pictures(scipy), number, rng)


def written(work: tuple[str, int], out: Path, scipy: Path) -> list[tuple[str, str, str]]:
    """Rows of the table for one round, whose clips are now files."""
    kind, number = work
    rows: list[tuple[str, str, str]] = []
    for source, prompt, frames in clips(kind, number, scipy):
        seen = sum(row[2] == source for row in rows)
        name = f"clips/{source}-{number:03d}{'abcdefgh'[seen]}.mp4"
        write(out / name, frames)
        rows.append((name, re.sub(r"\ba (?=[aeiou])", "an ", prompt), source))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scipy", type=Path, required=True, help="wheel of scipy 1.9.3")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the clips")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    (options.out / "clips").mkdir(parents=True, exist_ok=True)
    rounds = [
        (kind, number)
        for kind, count in ROUNDS.items()
        for number in range(max(1, round(count * options.scale)))
    ]
    with (
        ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool,
        (options.out / "metadata.csv").open("w", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(("video", "prompt", "source"))
        for rows in pool.map(partial(written, out=options.out, scipy=options.scipy), rounds):
            table.writerows(rows)
            print(*(row[0] for row in rows), flush=True)


if __name__ == "__main__":
    main()
