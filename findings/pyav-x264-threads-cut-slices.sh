#!/usr/bin/env bash
# PyAV 18.1.0: libx264 with the option threads=3 cuts each picture into three slices, which costs
# bytes, although x264's own default for several threads is a picture each: PyAV asks codecs for
# thread_type SLICE unless told otherwise. With the option thread_type=frame pictures are whole, and the
# file has the size of one thread's.
# Guessed: more threads of an encoder change its speed, and the file next to nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import re
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT, FRAMES = 640, 368, 24


def encoded(**options: str) -> tuple[int, int]:
    """Bytes, and slices of the pictures, of which there are at least as many."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.time_base = Fraction(1, 16)
    codec.options = {"preset": "medium", "crf": "18", **options}
    rng = np.random.default_rng(0)
    wall = rng.integers(64, 192, (HEIGHT // 8, WIDTH // 4, 3)).repeat(8, 0).repeat(8, 1)
    data = b""
    for number in range(FRAMES):
        picture = np.ascontiguousarray(wall[:, 4 * number : 4 * number + WIDTH].astype(np.uint8))
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
        frame.pts = number
        data += b"".join(map(bytes, codec.encode(frame)))
    data += b"".join(map(bytes, codec.encode(None)))
    # A start code, then the type in five bits: 1 is a slice, 5 one of a key picture.
    kinds = [match[0] & 31 for match in re.findall(b"\x00\x00\x01(.)", data, re.DOTALL)]
    return len(data), sum(kind in (1, 5) for kind in kinds)


one, three = encoded(threads="1"), encoded(threads="3")
frames = encoded(threads="3", thread_type="frame")
print(f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}")
for name, (size, slices) in (("one thread", one), ("three", three), ("three by frames", frames)):
    print(f"{name}: {size} bytes, {slices} slices of {FRAMES} pictures")
assert one[1] == frames[1] == FRAMES, "the behaviour has changed"
assert three[1] == 3 * FRAMES, "the behaviour has changed"
assert three[0] > 1.01 * one[0], "the behaviour has changed"
assert abs(frames[0] / one[0] - 1) < 0.01, "the behaviour has changed"
PY
