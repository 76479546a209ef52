"""The training clips of the tiny models: rendered scenes, photographs in motion, real recordings.

    MUJOCO_GL=egl python -m tiny_models.clips --out FOLDER [--scale 1.0]

Writes FOLDER/clips/*.mp4 (160x120, 16 frames a second, up to 33 frames) and FOLDER/metadata.csv
with the columns video, prompt, source. One source is one robot, task, kind of scene, photograph or
recording; those in clip_files.HELD_OUT are trained on by nothing.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tiny_models.clip_files import Frames, write
from tiny_models.objects import objects
from tiny_models.recordings import photographs, recordings
from tiny_models.robots import arm, robots


def clips(scale: float) -> Iterator[tuple[str, str, Frames]]:
    """All clips. `scale` shrinks the set, for trials."""

    def some(count: int) -> int:
        return max(1, round(count * scale))

    yield from recordings(some(14), np.random.default_rng(1))
    yield from photographs(some(12), np.random.default_rng(2))
    yield from objects(some(280), np.random.default_rng(3))
    yield from robots(some(12), np.random.default_rng(4))
    yield from arm(some(5), np.random.default_rng(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    (options.out / "clips").mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    with (options.out / "metadata.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("video", "prompt", "source"))
        for source, prompt, frames in clips(options.scale):
            prompt = re.sub(r"\ba (?=[aeiou])", "an ", prompt)
            name = f"clips/{source}-{seen[source]:03d}.mp4"
            seen[source] += 1
            write(options.out / name, frames)
            rows.writerow((name, prompt, source))
            file.flush()
            print(name, len(frames), prompt, flush=True)


if __name__ == "__main__":
    main()
