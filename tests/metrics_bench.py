"""Processor time and memory of scoring clips, beside OpenCV and scikit-image: `make bench-metrics`.

Both read the same two files of 81 frames of 1280x720, in turns, each in a process of its own.
scikit-image is no dependency: it is installed into a folder that is removed again.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

import coloured
import videos
from wan_runtime.rendering.media import write_mp4

PEERS = ("scikit-image==0.26.0", "scipy==1.17.1", "numpy==2.4.6")
FRAMES, ROUNDS = 81, 3
CLIPS, SHORT = 200, 9

OURS = """
import json, sys, time
from pathlib import Path
from wan_runtime.evaluation.metrics.score import score_clip
started = time.process_time()
scores = score_clip(*map(Path, sys.argv[1:3]), metrics=sys.argv[3:]).scores
taken = time.process_time() - started
print(json.dumps({"seconds": taken, **{name: each.value for name, each in scores.items()}}))
"""
THEIRS = """
import json, sys, time
import cv2, numpy as np
from skimage.metrics import structural_similarity
started = time.process_time()
one, other = map(cv2.VideoCapture, sys.argv[1:3])
errors, similar = [], []
while True:
    (more, x), (also, y) = one.read(), other.read()
    if not (more and also):
        break
    errors.append(np.mean((x.astype(np.float64) - y.astype(np.float64)) ** 2))
    similar.append(structural_similarity(x, y, gaussian_weights=True, sigma=1.5,
                   use_sample_covariance=False, data_range=255, channel_axis=2))
psnr = 10 * np.log10(255**2 / np.mean(errors[1:]))
taken = time.process_time() - started
print(json.dumps({"seconds": taken, "psnr": psnr, "ssim": float(np.mean(similar[1:]))}))
"""
SAME_PICTURES = """
import json, sys
from pathlib import Path
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from wan_runtime.evaluation.metrics.alignment import Aligned
pairs, errors, similar = 0, [], []
for pair in Aligned(*map(Path, sys.argv[1:3])):
    if pair.index == 0:
        continue
    x, y = pair.candidate.rgb, pair.reference.rgb
    errors.append(np.mean((x.astype(np.float64) - y.astype(np.float64)) ** 2))
    similar.append(structural_similarity(x, y, gaussian_weights=True, sigma=1.5,
                   use_sample_covariance=False, data_range=255, channel_axis=2))
psnr = 10 * np.log10(255**2 / np.mean(errors))
print(json.dumps({"psnr": psnr, "ssim": float(np.mean(similar))}))
"""
MANY = """
import json, resource, sys
from pathlib import Path
from wan_runtime.contract.metric_names import METRICS
from wan_runtime.evaluation.metrics.score import score_clip
names = [name for name, each in METRICS.items() if each.mounted is None]
peaks = []
for number in range(int(sys.argv[3])):
    scores = score_clip(*map(Path, sys.argv[1:3]), metrics=names).scores
    assert all(each.value is not None for each in scores.values()), scores
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps({"first": peaks[0], "last": peaks[-1]}))
"""


def run(program: str, *arguments: str | Path, peers: Path | None = None) -> dict[str, Any]:
    paths = os.environ["PYTHONPATH"] + (f":{peers}" if peers else "")
    command = [sys.executable, "-c", program, *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def pair_of(folder: Path, frames: int) -> tuple[Path, Path]:
    """A clip as the product writes it, and one of the same frames with what a low rate leaves."""
    images = list(islice(cycle(videos.pixels("bigbuckbunny", frames)), frames))
    reference, candidate = folder / f"reference{frames}.mp4", folder / f"candidate{frames}.mp4"
    write_mp4(np.stack(images), reference, 16)
    decoded = [
        av.VideoFrame.from_ndarray(each, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=1, dst_color_range=1
        )
        for each in images
    ]
    coloured.encode(
        candidate, decoded, codec="libx264", options={"crf": "30"}, colorspace=1, color_range=1
    )
    return candidate, reference


def libvmaf(candidate: Path, reference: Path, model: str) -> float:
    """What FFmpeg's program says of all frames but the first."""
    cut = "select=gte(n\\,1),setpts=N"
    graph = f"[0]{cut}[a];[1]{cut}[b];[a][b]libvmaf=model=version={model}"
    inputs = ["-i", str(candidate), "-i", str(reference)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", *inputs]
    done = subprocess.run(
        [*command, "-lavfi", graph, "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    return float(done.stderr.rpartition("VMAF score:")[2].split()[0])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peers = folder / "peers"
        install = ["uv", "pip", "install", "--quiet", "--target", str(peers), *PEERS]
        subprocess.run(install, cwd=folder, check=True)
        pair = pair_of(folder, FRAMES)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(run(OURS, *pair, "psnr", "ssim"))
            theirs.append(run(THEIRS, *pair, peers=peers))
        same = run(SAME_PICTURES, *pair, peers=peers)
        seconds = [statistics.median(each["seconds"] for each in all) for all in (ours, theirs)]
        print(f"processor time of {FRAMES} pairs of 1280x720, median of {ROUNDS}:")
        print(f"  ours {seconds[0]:.2f} s, OpenCV and scikit-image {seconds[1]:.2f} s:", end=" ")
        print(f"{seconds[1] / seconds[0]:.1f} times")
        for name, unit in (("psnr", "dB"), ("ssim", "")):
            print(
                f"  {name}: ours {ours[0][name]:.5f}, scikit-image {same[name]:.5f} {unit}", end=""
            )
            print(f" of the same pictures, {theirs[0][name]:.5f} as OpenCV decodes them")
        vmaf = run(OURS, *pair, "vmaf")
        print(f"VMAF alone: {vmaf['seconds']:.2f} s, {vmaf['vmaf']:.4f};", end=" ")
        for model in ("vmaf_float_v0.6.1", "vmaf_v0.6.1"):
            print(f"{model} of libvmaf {libvmaf(*pair, model):.4f}", end=" ")
        print()
        peaks = run(MANY, *pair_of(folder, SHORT), str(CLIPS))
        print(f"peak of memory: {peaks['first']:.0f} MiB after 1 clip with every metric,", end=" ")
        print(f"{peaks['last']:.0f} MiB after {CLIPS}")


if __name__ == "__main__":
    main()
