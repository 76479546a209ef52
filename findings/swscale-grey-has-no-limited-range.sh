#!/usr/bin/env bash
# libswscale 9.5 (PyAV 18.1.0): grey that is tagged as limited range is converted to RGB as if it were full:
# black stays at 16, white at 235. x265 writes monochrome video so. Luma of the same values and tag in
# yuv420p is expanded to 0 and 255. Guessed: the tag counts for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np

LIMITED = 1


def shown(level: int, form: str) -> int:
    planes = np.full((8, 8) if form == "gray" else (12, 8), 128, np.uint8)
    planes[:8] = level
    frame = av.VideoFrame.from_ndarray(planes, form)
    frame.color_range = LIMITED
    return int(frame.to_ndarray(format="rgb24")[4, 4, 1])


levels = {form: (shown(16, form), shown(235, form)) for form in ("gray", "yuv420p")}
print(f"PyAV {av.__version__}, libswscale {av.library_versions['libswscale']}")
print(f"black and white of limited range become {levels}")
assert levels["gray"] == (16, 235), "the behaviour has changed"
assert levels["yuv420p"][0] <= 1 and levels["yuv420p"][1] >= 254, "the behaviour has changed"
PY
