#!/usr/bin/env bash
# FFmpeg 8.1 (PyAV 18.1.0): an MP4 whose edit list shows two parts of HEVC with B-frames loses the
# second (frames 10 to 14, then 15 to 19), or plays it before the first (frame 13, then 27). The
# same lists of H.264 are right, and lists of one part. Guessed: a list is followed whatever the
# codec.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>/dev/null
import struct

import av
import numpy as np

CODECS = {
    "libx264": {"bf": "3", "qp": "0", "g": "12", "b-adapt": "0"},
    "libx265": {"x265-params": "lossless=1:bframes=3:keyint=12:b-adapt=0:b-pyramid=1:log-level=none"},
}
RATE, TICKS = 16, 1024  # a second, and in a frame


def written(codec: str, parts: list[tuple[int, int]]) -> None:
    """60 frames of as many greys. `parts`: of the edit list, as first frame and count."""
    with av.open("whole.mp4", "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=CODECS[codec])
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(60):
            grey = np.full((96, 128, 3), 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode(None))
    with av.open("whole.mp4") as container:
        assert 1 / container.streams.video[0].time_base == RATE * TICKS, "other ticks"
    data = open("whole.mp4", "rb").read()
    at = data.index(b"elst")
    (start,) = struct.unpack(">i", data[at + 16 : at + 20])
    entries = b"".join(
        struct.pack(">iii", round(count * 1000 / RATE), start + first * TICKS, 1 << 16)
        for first, count in parts
    )
    longer = bytearray(data[: at + 8] + struct.pack(">i", len(parts)) + entries + data[at + 24 :])
    for box in (b"elst", b"edts", b"trak", b"moov"):
        size = longer.index(box) - 4
        longer[size : size + 4] = struct.pack(
            ">I", int.from_bytes(longer[size : size + 4], "big") + len(entries) - 12
        )
    open("edited.mp4", "wb").write(longer)


def shown() -> list[tuple[int, int]]:
    """When, in frames, and which."""
    with av.open("edited.mp4") as container:
        return [
            (round(frame.time * RATE), round(float(frame.to_ndarray(format="rgb24").mean()) / 4))
            for frame in container.decode(video=0)
        ]


print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}")
for parts, hevc in (
    ([(13, 1)], [(0, 13)]),
    ([(10, 5), (15, 5)], [(number, 10 + number) for number in range(5)]),
    ([(13, 1), (27, 1)], [(2, 13), (0, 27)]),
):
    frames = [first + number for first, count in parts for number in range(count)]
    for codec, expected in (("libx264", list(enumerate(frames))), ("libx265", hevc)):
        written(codec, parts)
        print(f"{codec}, parts (first frame, count) {parts}: (time, frame) {shown()}")
        assert shown() == expected, "the behaviour has changed"
PY
