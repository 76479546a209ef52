#!/usr/bin/env bash
# PyAV 18.1.0: of a video whose codec cuts off columns at the left (cropping of H.264, the conformance
# window of HEVC), up to 31 of them stay in each frame, which is then wider than the codec context says:
# FFmpeg rounds the crop to what processors like, unless the flag `unaligned` is set. FFmpeg's program sets
# it. Guessed: a frame has the size of the codec context.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags


def written(path: str) -> None:
    """White, 160x128, of which the codec cuts off ten columns at the left that are black."""
    picture = np.full((128, 160, 3), 255, np.uint8)
    picture[:, :10] = 0
    with av.open("whole.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        for _ in range(4):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open("whole.mp4") as before, av.open(path, "w") as after:
        source = before.streams.video[0]
        stream = after.add_stream_from_template(source, opaque=True)
        cut = BitStreamFilterContext("h264_metadata=crop_left=10", source, stream)
        for packet in before.demux(source):
            for each in cut.filter(packet if packet.size else None):
                each.stream = stream
                after.mux(each)


written("cut.mp4")
print(f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}")
found = {}
for unaligned in (False, True):
    with av.open("cut.mp4") as container:
        context = container.streams.video[0].codec_context
        if unaligned:
            context.flags |= Flags.unaligned
        said = context.width
        frame = next(container.decode(video=0))
        dark = int((frame.to_ndarray(format="gray")[64] < 128).sum())
    found[unaligned] = frame.width, dark
    flag = "with the flag" if unaligned else "without"
    print(f"{flag}: {said} columns said, {frame.width} in the frame, {dark} of them black")
    assert said == 150, "the codec does not say it"
assert found == {False: (160, 10), True: (150, 0)}, "the behaviour has changed"
PY
