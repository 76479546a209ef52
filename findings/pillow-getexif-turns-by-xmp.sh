#!/usr/bin/env bash
# Pillow 13.0.0: getexif() of a picture without EXIF has the orientation of its XMP, and
# ImageOps.exif_transpose turns by it. Browsers turn by EXIF alone, and editors that turn the pixels and
# leave EXIF away may leave XMP as the camera wrote it: such a picture is turned twice. Guessed: getexif
# reads EXIF, which `info` shows that there is none of.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io

import PIL
from PIL import Image, ImageOps

XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
print(f"Pillow {PIL.__version__}")
for kind in ("JPEG", "WEBP"):
    file = io.BytesIO()
    Image.new("RGB", (40, 24)).save(file, kind, xmp=XMP)
    picture = Image.open(file)
    turned = ImageOps.exif_transpose(picture).size
    exif = "exif" in picture.info
    print(f"{kind}: EXIF {exif}, getexif {dict(picture.getexif())}, {picture.size} becomes {turned}")
    assert not exif and picture.getexif()[0x112] == 6, "the behaviour has changed"
    assert turned == (24, 40), "the behaviour has changed"
PY
