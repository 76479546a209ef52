#!/usr/bin/env bash
# libswscale 9.5 (PyAV 18.1.0): a clip in PQ without mastering metadata, as editors export it, is tone-mapped
# for the brightest that PQ can say, 10,000 cd/m2: a white sheet of 203 cd/m2 (BT.2408) comes out grey, while
# players show it as white or near it. Guessed: white stays white, as with the 1,000 of usual masters.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np
from av.filter import Graph

M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # ST 2084


def shown(nits: float) -> int:
    power = (nits / 10000) ** M1
    level = ((C1 + C2 * power) / (1 + C3 * power)) ** M2
    picture = np.full((64, 64, 3), round(level * 65535), np.uint16)
    frame = av.VideoFrame.from_ndarray(picture, "rgb48le")
    frame.pts = 0
    graph = Graph()
    source = graph.add_buffer(width=64, height=64, format="rgb48le", time_base=1)
    tags = graph.add("setparams", "color_primaries=bt2020:color_trc=smpte2084:range=pc:colorspace=gbr")
    scale = graph.add("scale", "out_primaries=bt709:out_transfer=bt709:intent=perceptual")
    form, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    for one, other in zip((source, tags, scale, form), (tags, scale, form, sink)):
        one.link_to(other)
    graph.configure()
    source.push(frame)
    source.push(None)
    return int(graph.pull().to_ndarray()[32, 32, 1])


levels = {nits: shown(nits) for nits in (100, 203, 1000, 10000)}
print(f"PyAV {av.__version__}, libswscale {av.library_versions['libswscale']}")
print(f"cd/m2 in PQ -> level of 255 in BT.709: {levels}")
assert levels[203] < 190 and levels[10000] > 240, "the behaviour has changed"
PY
