"""Photos as files: profiles, chunks and headers that Pillow does not write."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Columns: XYZ under D50 of the primaries.
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
)
DISPLAY_P3 = np.array(
    [[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
ADOBE = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)


def png(
    pixels: NDArray[np.uint8] | NDArray[np.uint16],
    *chunks: tuple[bytes, bytes],
    kind: int = 2,
    size: tuple[int, int] | None = None,
    bits: int = 8,
) -> bytes:
    """A PNG of [H, W] or [H, W, C], with further chunks before its pixels. `kind`: 0 grey, 2 RGB, 3
    palette, 4 grey and alpha, 6 RGBA. `size`: what the header claims. `bits`: of each byte, the
    lowest ones, that are kept."""
    height, width = pixels.shape[:2]
    depth = bits * pixels.itemsize
    header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, kind, 0, 0, 0)
    stored = pixels.astype(pixels.dtype.newbyteorder(">"))
    if bits < 8:
        kept = np.unpackbits(stored.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
        stored = np.packbits(kept.reshape(height, -1), axis=1)
    lines = b"".join(b"\0" + line.tobytes() for line in stored)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    """With its length and its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def profile_chunk(icc: bytes) -> tuple[bytes, bytes]:
    """iCCP."""
    return b"iCCP", b"icc\0\0" + zlib.compress(icc)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file of Pillow's."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def rgb_profile(primaries: NDArray[np.float64], gamma: float | None = None) -> bytes:
    """ICC. `gamma`: None: the curve of sRGB."""
    curve = (
        _gamma(gamma)
        if gamma
        else b"para\0\0\0\0\0\3\0\0" + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    )
    tags = {
        f"{name}XYZ": b"XYZ \0\0\0\0" + _fixed(*column)
        for name, column in zip("rgb", primaries.T, strict=True)
    }
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | {f"{name}TRC": curve for name in "rgb"})


def grey_profile(gamma: float) -> bytes:
    """ICC."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {"kTRC": _gamma(gamma)})


def ink_profile(ink: Sequence[int]) -> bytes:
    """ICC of a printer with black, and one `ink` in place of cyan, magenta and yellow: CIELAB, a
    byte a channel."""
    paper, black = (255, 128, 128), (0, 128, 128)
    table = b"".join(bytes(black if at % 2 else ink if at else paper) for at in range(2**4))
    ramp = bytes(range(256))
    identity = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + table + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {"A2B0": lut})


def light(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Linear, of sRGB's levels."""
    part = levels / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def levels(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB's levels of linear light."""
    part = light.clip(0, 1)
    return 255 * np.where(part <= 0.0031308, 12.92 * part, 1.055 * part ** (1 / 2.4) - 0.055)


def in_srgb(light: NDArray[np.float64], primaries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels of sRGB, of light [..., 3] of other primaries."""
    return levels(light @ (np.linalg.inv(SRGB) @ primaries).T)


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(gamma * 256))


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(device: bytes, space: bytes, connection: bytes, tags: dict[str, bytes]) -> bytes:
    text = b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78)
    white = _fixed(0.9642, 1, 0.8249)
    every = {"desc": text, "wtpt": b"XYZ \0\0\0\0" + white, **tags}
    at = 128 + 4 + 12 * len(every)
    table, body = struct.pack(">I", len(every)), b""
    for name, tag in every.items():
        tag += bytes(-len(tag) % 4)
        table += name.encode() + struct.pack(">II", at + len(body), len(tag))
        body += tag
    head = struct.pack(">I", at + len(body)) + b"\0\0\0\0\2\x20\0\0" + device + space + connection
    return head.ljust(36, b"\0") + b"acsp".ljust(32, b"\0") + white.ljust(60, b"\0") + table + body
