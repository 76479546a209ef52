#!/usr/bin/env bash
# PyAV 18.1.0 with libx264: a video of 16 frames a second, encoded in segments of 16 frames by encoders
# of their own and joined in one mp4. All frames have the right times, but where the last segment is
# of one or two frames, as 17 or 81 end with, the file states fewer frames a second: such a segment is
# not reordered, so that its decoding times leave a gap. Guessed: right pts make the right rate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from fractions import Fraction

import av
import numpy as np

RATE, SEGMENT = 16, 16


def encoded(first: int, last: int) -> list[av.Packet]:
    """Packets of the frames from `first` to `last` - 1, by an encoder of their own."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 128, 96, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, RATE), RATE
    codec.open()
    packets = []
    for number in range(first, last):
        picture = np.full((96, 128, 3), 2 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        packets += codec.encode(frame)
    return packets + codec.encode(None)


def stated(count: int) -> tuple[Fraction, bool]:
    """Mean rate that the file states, and whether its frames have the times that they were given."""
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for first in range(0, count, SEGMENT):
            for packet in encoded(first, min(count, first + SEGMENT)):
                packet.stream = stream
                container.mux(packet)
    with av.open("clip.mp4") as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        return stream.average_rate, times == [number / RATE for number in range(count)]


print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}")
found = {count: stated(count) for count in (64, 80, 81, 82, 83)}
for count, (rate, right) in found.items():
    print(f"{count} frames: {float(rate):.3f} a second, times {'right' if right else 'wrong'}")
assert all(right for _, right in found.values()), "the behaviour has changed"
assert [count for count, (rate, _) in found.items() if rate != RATE] == [81, 82], "the behaviour has changed"
PY
