#!/usr/bin/env bash
# PyAV 18.1.0: one kind of side data that it has no name for (EXIF, which FFmpeg 8.1 attaches to every
# JPEG that has it, also in a MOV) makes all side data of the frame unreadable, the display matrix too.
# What is left is `rotation`: -180 for a picture that is to be mirrored. Guessed: what is known is listed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io

import av
from PIL import Image

ORIENTATION, MIRRORED = 0x112, 2
picture, file = Image.new("RGB", (64, 64)), io.BytesIO()
exif = picture.getexif()
exif[ORIENTATION] = MIRRORED
picture.save(file, "JPEG", exif=exif)
file.seek(0)
frame = next(av.open(file).decode(video=0))
try:
    seen = sorted(frame.side_data.keys())
except ValueError as error:
    seen = f"ValueError: {error}"
print(f"PyAV {av.__version__}, libavutil {av.library_versions['libavutil']}")
print(f"a mirrored JPEG: rotation {frame.rotation}, side_data {seen}")
assert frame.rotation == -180 and str(seen).startswith("ValueError"), "the behaviour has changed"
PY
