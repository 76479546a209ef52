#!/usr/bin/env bash
# FFmpeg 8.1 (PyAV 18.1.0), filter haldclut: an identity table leaves packed RGB as it is, and turns
# red into blue in planar RGB (gbrp). Guessed: the table means the same in every form of pixels.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np
from av.filter import Graph


def red_through_identity(form: str) -> list[int]:
    axis = np.linspace(0, 255, 16).astype(np.uint8)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    table = np.stack([red, green, blue], axis=-1).reshape(64, 64, 3)
    pictures = [np.full((16, 16, 3), (255, 0, 0), np.uint8), table]
    frames = [av.VideoFrame.from_ndarray(each, "rgb24").reformat(format=form) for each in pictures]
    graph = Graph()
    inputs = [
        graph.add_buffer(width=each.width, height=each.height, format=form, time_base=1)
        for each in frames
    ]
    lut, sink = graph.add("haldclut"), graph.add("buffersink")
    for number, (source, frame) in enumerate(zip(inputs, frames)):
        frame.pts = 0
        source.link_to(lut, 0, number)
    lut.link_to(sink)
    graph.configure()
    for source, frame in zip(inputs, frames):
        source.push(frame)
        source.push(None)
    return graph.pull().to_ndarray(format="rgb24")[0, 0].tolist()


packed, planar = red_through_identity("rgb24"), red_through_identity("gbrp")
print(f"PyAV {av.__version__}, libavfilter {av.library_versions['libavfilter']}")
print(f"red (255, 0, 0) through an identity table: rgb24 {packed}, gbrp {planar}")
assert packed == [255, 0, 0] and planar == [0, 0, 255], "the behaviour has changed"
PY
