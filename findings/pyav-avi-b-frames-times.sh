#!/usr/bin/env bash
# PyAV 18.1.0: frames of H.264 with B-frames in AVI, which keeps no times, are decoded in their order
# and carry times that jump back and forth: PyAV opens every file with AVFMT_FLAG_GENPTS. With the flag
# cleared after open, the frames have no pts, and dts ascends. Guessed: frame.pts ascends.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np
from av.container import Flags

with av.open("clip.avi", "w") as container:
    stream = container.add_stream("libx264", rate=16)
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    stream.options = {"bf": "3"}
    for number in range(20):
        picture = np.full((96, 128, 3), 9 * number, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
    container.mux(stream.encode(None))


def decoded(made_up: bool) -> tuple[list[int], list[int | None], list[int]]:
    """Brightness, pts and dts of each frame."""
    with av.open("clip.avi") as container:
        if not made_up:
            container.flags &= ~Flags.gen_pts.value
        frames = list(container.decode(video=0))
        levels = [int(each.to_ndarray(format="gray").mean()) for each in frames]
        return levels, [each.pts for each in frames], [each.dts for each in frames]


levels, pts, _ = decoded(made_up=True)
_, none, dts = decoded(made_up=False)
print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}")
print(f"brightness of the frames as decoded: {levels}")
print(f"their pts:                           {pts}")
print(f"without the flag, pts {none[:3]}…, dts {dts}")
assert levels == sorted(levels) and pts != sorted(pts), "the behaviour has changed"
dts = [each for each in dts if each is not None]
assert dts == sorted(dts), "the behaviour has changed"
PY
