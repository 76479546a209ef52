#!/usr/bin/env bash
# FFmpeg 8.1 (PyAV 18.1.0): an MP4 whose edit list has a pause between two parts (an empty edit, for five
# frames here) shows frames from the beginning of the file during the pause. Guessed: nothing new
# is shown, as in a pause before the first part, which is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import struct

import av
import numpy as np

EMPTY = -1
FRAME = 40
"""Milliseconds, in which MP4 by FFmpeg counts the parts."""


def written(parts: list[tuple[int, int]]) -> None:
    """Frames of as many greys at 25 a second. `parts`: of the edit list, as first frame and count."""
    with av.open("whole.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0", "qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            grey = np.full((48, 64, 3), 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode(None))
    with av.open("whole.mp4") as container:
        ticks = int(1 / (25 * container.streams.video[0].time_base))
    data = open("whole.mp4", "rb").read()
    at = data.index(b"elst")
    entries = b"".join(
        struct.pack(">iii", count * FRAME, first if first == EMPTY else first * ticks, 1 << 16)
        for first, count in parts
    )
    longer = bytearray(data[: at + 8] + struct.pack(">i", len(parts)) + entries + data[at + 24 :])
    for box in (b"elst", b"edts", b"trak", b"moov"):
        size = longer.index(box) - 4
        longer[size : size + 4] = struct.pack(
            ">I", int.from_bytes(longer[size : size + 4], "big") + len(entries) - 12
        )
    open("edited.mp4", "wb").write(longer)


def shown() -> list[int]:
    """Numbers of the frames, one for each 25th of a second in which one is new, else -1."""
    with av.open("edited.mp4") as container:
        stream = container.streams.video[0]
        frames = {
            round(frame.time * 25): round(float(frame.to_ndarray(format="rgb24")[24, 32, 0]) / 4)
            for frame in container.decode(stream)
        }
    return [frames.get(time, -1) for time in range(min(frames), max(frames) + 1)]


print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}")
written([(EMPTY, 5), (10, 5)])
before = shown()
written([(10, 5), (EMPTY, 5), (30, 5)])
between = shown()
print("a pause before frames 10 to 14:", before)
print("a pause between frames 10 to 14 and 30 to 34:", between)
assert before == [10, 11, 12, 13, 14], "the behaviour has changed"
assert between == [10, 11, 12, 13, 14, 0, 1, 2, 3, 4, 30, 31, 32, 33, 34], "the behaviour has changed"
PY
