#!/usr/bin/env bash
# PyAV 18.1.0: swscale turns frames of 10 or 12 bits in full range into 8-bit RGB that is half a level
# of 255 too bright in the mean and 1.2 at most, with its default flags and with accurate rounding
# alike. Frames of 8 bits are right, and of 10 bits in limited range the mean is. Guessed: 1023 is
# white and each grey is rounded to the nearest level.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np
from av.video.reformatter import Interpolation

FLAGS = {
    "default flags": Interpolation.BILINEAR,
    "accurate rounding": Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
}


def excess(bits: int, flags: Interpolation, span: str) -> np.ndarray:
    """By how many levels of 255 each grey of a ramp is too bright."""
    unit = 2 ** (bits - 8)
    low, high = (0, 2**bits - 1) if span == "JPEG" else (16 * unit, 235 * unit)
    levels = np.arange(low, high + 1)
    form, kind = ("yuv444p", np.uint8) if bits == 8 else (f"yuv444p{bits}le", np.dtype("<u2"))
    frame = av.VideoFrame(len(levels), 16, form)
    middle = np.full_like(levels, 2 ** (bits - 1))
    for plane, row in zip(frame.planes, (levels, middle, middle)):
        plane.update(row.astype(kind).tobytes().ljust(plane.line_size, b"\0") * 16)
    rgb = frame.reformat(
        format="rgb24", src_color_range=span, dst_color_range="JPEG", interpolation=flags
    ).to_ndarray()
    return rgb[8].mean(-1) - (levels - low) * 255 / (high - low)


print(f"PyAV {av.__version__}, libswscale {av.library_versions['libswscale']}")
found = {}
for name, flags in FLAGS.items():
    for bits, span in ((8, "JPEG"), (10, "JPEG"), (12, "JPEG"), (10, "MPEG")):
        off = found[name, bits, span] = excess(bits, flags, span)
        words = "full" if span == "JPEG" else "limited"
        print(f"{name}, {bits} bits, {words} range: {off.mean():+.3f} in the mean, {off.max():+.3f} at most")
for name in FLAGS:
    assert abs(found[name, 8, "JPEG"]).max() < 0.01, "the behaviour has changed"
    assert abs(found[name, 10, "MPEG"].mean()) < 0.1, "the behaviour has changed"
    for bits in (10, 12):
        off = found[name, bits, "JPEG"]
        assert 0.4 < off.mean() < 0.6 and off.max() > 1.2, "the behaviour has changed"
PY
