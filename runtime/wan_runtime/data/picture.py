"""A still picture as the model starts from it: upright, sRGB, cut and scaled as clips are.

Pillow only: the gateway of the video service reads photos by it, as `prepare` and `encode` read
first frames.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from wan_runtime.data.frames import crop_box
from wan_runtime.data.rejected import PictureRejected
from wan_runtime.data.signatures import HEAD, kind_of
from wan_runtime.data.srgb import flat

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""Formats that are decoded; of several pictures in one file, the first is read."""
MOST_PIXELS = 89_000_000
"""Pixels of a picture, at most. Pillow warns beyond."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transpositions by the value of the EXIF tag Orientation."""
ORIENTATION = 0x0112


def read(source: Path | bytes, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """RGB in sRGB, as a browser would show it on white.

    Raises:
        PictureRejected: whatever is wrong. The pixels are counted before any is decoded.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        head = stream.read(HEAD)
        if not head:
            raise PictureRejected("is empty")
        kind = kind_of(head)
        if kind not in FORMATS:
            other = f"is {kind}, which is not read" if kind else "is no picture of a known kind"
            raise PictureRejected(f"{other}: send a JPEG or PNG", unsupported=True)
        try:
            return _pixels(stream, head if kind == "PNG" else b"", most_pixels)
        except (MemoryError, PictureRejected):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            most = min(most_pixels, 2 * (Image.MAX_IMAGE_PIXELS or most_pixels))
            text = f"has more than {most / 1e6:.3g} million pixels: scale it down"
            raise PictureRejected(text) from error
        except Exception as error:  # Pillow's own list is open: a file may provoke nearly any
            text = "cannot be decoded: it is damaged, or a part of it is missing"
            if "too large" in str(error):
                text = "has a text or a profile of more than 1 MiB: save it without metadata"
            raise PictureRejected(text) from error


def cut(picture: Image.Image, width: int, height: int, pixel_aspect: float = 1.0) -> Image.Image:
    """The centre in the target's shape and size, scaled with antialiasing."""
    box = crop_box(picture.width, picture.height, width, height, pixel_aspect)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box)


def cicp_of(stream: BinaryIO) -> bytes:
    """The four numbers of a PNG's chunk cICP; nothing where there is none."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        size = int.from_bytes(head[:4], "big")
        if (head[4:], size) == (b"cICP", 4):
            return found if len(found := stream.read(4)) == 4 else b""
        stream.seek(size + 4, io.SEEK_CUR)
    return b""


def _pixels(stream: BinaryIO, png: bytes, most_pixels: int) -> Image.Image:
    """`png`: the first bytes of one."""
    cicp = cicp_of(stream) if png else b""
    stream.seek(0)
    picture = Image.open(stream, formats=FORMATS)
    if picture.width * picture.height > most_pixels:
        raise PictureRejected(
            f"has {picture.width}x{picture.height} pixels, more than {most_pixels / 1e6:.3g} "
            "million: scale it down"
        )
    if getattr(picture, "default_image", False):  # browsers show another than Pillow and viewers
        raise PictureRejected(
            "is an animated PNG with a still picture beside its frames: save the one that is meant "
            "as a PNG of its own"
        )
    # Of a GIF, the first picture may fill a part; Pillow has the first colour around it.
    part = picture.tile[0].extents if picture.format == "GIF" else None
    picture.load()
    if png:
        _mend_transparency(picture, png[24])
    flattened = flat(picture, cicp)
    if part and part != (0, 0, *picture.size):
        page = Image.new("RGB", picture.size, "white")
        page.paste(flattened.crop(part), part)
        flattened = page
    turn = TURNS.get(_orientation(picture))
    return flattened if turn is None else flattened.transpose(turn)


def _mend_transparency(picture: Image.Image, bits: int) -> None:
    """A PNG's transparent level becomes one of 8 bits, as Pillow's pixels are. Raises
    PictureRejected for a colour of 16 bits, which it cannot."""
    hidden = picture.info.get("transparency")
    if bits == 16 and isinstance(hidden, tuple):
        raise PictureRejected("has a transparent colour of 16 bits: save it with 8")
    if bits in (2, 4) and isinstance(hidden, int) and picture.mode == "L":
        picture.info["transparency"] = hidden % 2**bits * 255 // (2**bits - 1)


def _orientation(picture: Image.Image) -> int:
    """As EXIF has it, if that can be read. Not as XMP has it, which Pillow's `getexif` falls back
    on: browsers do not, and editors leave the camera's there when they turn the pixels."""
    try:
        exif = Image.Exif()
        exif.load(picture.info.get("exif") or b"")
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # as above; browsers turn nothing then
        return 1
