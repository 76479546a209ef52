#!/usr/bin/env bash
# FFmpeg 9.0.2 (imageio-ffmpeg 0.8.1), filter scale: where the chroma samples lie is not taken from the
# frame. Frames that say `left` and `center` become the same RGB; only the option in_chroma_loc moves
# the chroma, and that only with full_chroma_int. Guessed: scale follows the frame, as for matrix and range.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import subprocess

import imageio_ffmpeg
import numpy as np

PROGRAM = imageio_ffmpeg.get_ffmpeg_exe()


def rgb(filters: str) -> np.ndarray:
    source = "testsrc2=s=128x96:d=0.04,format=yuv420p"
    command = [PROGRAM, "-v", "error", "-f", "lavfi", "-i", source, "-vf", f"{filters},format=rgb24",
               "-frames:v", "1", "-f", "rawvideo", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)


FLAGS = "flags=bilinear+accurate_rnd+full_chroma_int"
left, center = (rgb(f"setparams=chroma_location={place},scale={FLAGS}") for place in ("left", "center"))
chosen = [rgb(f"scale=in_chroma_loc={place}:{FLAGS}") for place in ("left", "center")]
print(subprocess.run([PROGRAM, "-version"], capture_output=True, text=True).stdout.splitlines()[0])
print(f"frames of left and center differ in {np.count_nonzero(left != center)} values")
apart = np.abs(chosen[0].astype(int) - chosen[1])
print(f"in_chroma_loc=left and =center differ in {np.count_nonzero(apart)}, by up to {apart.max()}")
assert (left == center).all() and apart.any(), "the behaviour has changed"
PY
