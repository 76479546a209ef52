"""Processor time of the checks of a clip: `PYTHONPATH=runtime:tests python tests/clips_bench.py`.

With the path of another checkout, that one's too, in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

import coloured
import videos
from wan_runtime.data.filters import Chain

FRAMES, ROUNDS, REPEATS = 17, 5, 5
MEASURE = """
import json, sys, time
from pathlib import Path
from wan_runtime.data import quality
from wan_runtime.data.clips import check_clip, read_clip

def check(path, frames):
    facts = check_clip(path, frames=frames, fps=16, width=832, height=480)
    stills = facts.window(0, frames)
    judges = (quality.cuts, quality.drift, quality.repeats, quality.bars)
    for judge in (*judges, quality.fingerprint, quality.thumbnail):
        judge(stills)

def read(path, frames):
    read_clip(path, frames=frames, fps=16, width=832, height=480)

path, frames, repeats = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
taken = {}
for action in (check, read):
    action(path, frames)
    taken[action.__name__] = []
    for _ in range(repeats):
        start = time.process_time()
        action(path, frames)
        taken[action.__name__].append(time.process_time() - start)
print(json.dumps(taken))
"""


def kinds(folder: Path) -> dict[str, Path]:
    """Clips of 1280x720 and at least 17 frames at 16 fps."""
    images = videos.pixels("bigbuckbunny", 30)
    plain = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in images]
    frames = [frame.reformat(format="yuv420p") for frame in plain]
    chain = Chain(frames[0], ("setfield", "tff"))
    flagged: list[av.VideoFrame] = []
    for frame in frames:
        chain.push(frame)
        flagged += chain.ready()
    deep = [frame.reformat(format="yuv420p10le") for frame in plain]
    fields = {"x264-params": "tff=1"}
    return {
        "plain": videos.original("bigbuckbunny"),
        "interlaced": coloured.encode(
            folder / "interlaced.mp4", flagged, codec="libx264", fps=25, options=fields
        ),
        "HLG": coloured.encode(
            folder / "hlg.mp4", deep, codec="libx264", fps=25, colorspace=9, color_trc=18
        ),
    }


def measured(checkout: Path, clip: Path) -> dict[str, list[float]]:
    paths = f"{checkout}/runtime:{checkout}/operator"
    command = [sys.executable, "-c", MEASURE, str(clip), str(FRAMES), str(REPEATS)]
    env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def main() -> None:
    ours = Path(__file__).parents[1]
    others = [Path(each).resolve() for each in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        for name, clip in kinds(Path(folder)).items():
            taken: dict[tuple[str, Path], list[float]] = {}
            for _ in range(ROUNDS):
                for checkout in (ours, *others):
                    for action, seconds in measured(checkout, clip).items():
                        taken.setdefault((action, checkout), []).extend(seconds)
            for action in ("check", "read"):
                own = statistics.median(taken[action, ours])
                print(f"{name}, {action}: {own:.3f} s", end="")
                for other in others:
                    base = np.array(taken[action, other])
                    print(
                        f"; there {np.median(base):.3f} s, {own / np.median(base):.2f} times",
                        end="",
                    )
                print(flush=True)


if __name__ == "__main__":
    main()
