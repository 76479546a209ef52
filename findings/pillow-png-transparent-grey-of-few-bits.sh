#!/usr/bin/env bash
# Pillow 13.0.0: a grey PNG of 2 or 4 bits, as optimizers write them, is read with levels from 0 to 255,
# but its transparent level (tRNS) stays one of 0 to 3 or 15: other pixels become transparent than are
# meant, or none. Of 1 and 8 bits it is right. Guessed: the level in info["transparency"] is one of the pixels'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import zlib

import PIL
from PIL import Image


def png(bits: int) -> bytes:
    """One row of all levels, of which level 1 is transparent."""
    levels = range(2**bits)
    row = "".join(format(level, f"0{bits}b") for level in levels)
    row = row.ljust(-(-len(row) // 8) * 8, "0")
    line = b"\0" + bytes(int(row[at : at + 8], 2) for at in range(0, len(row), 8))
    header = struct.pack(">IIBBBBB", len(levels), 1, bits, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(line)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


print(f"Pillow {PIL.__version__}")
found = {}
for bits in (1, 2, 4, 8):
    alpha = Image.open(io.BytesIO(png(bits))).convert("LA").getchannel("A").tobytes()
    found[bits] = [level for level, opaque in enumerate(alpha) if not opaque]
    print(f"{bits} bits: transparent levels {found[bits]}, of [1]")
assert found == {1: [1], 2: [], 4: [], 8: [1]}, "the behaviour has changed"
PY
