"""The uploaded first frame."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_runtime.data.clips import read_picture
from wan_runtime.serving.gateway.pictures import first_frame
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.service import Size

SIZE = Size(width=128, height=96)
PIXELS = 40_000_000


def picture(width: int = 320, height: int = 200, kind: str = "PNG", **options: object) -> bytes:
    rows = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    columns = np.linspace(0, 255, width, dtype=np.uint8)[None, :]
    pixels = np.stack([rows + 0 * columns, columns + 0 * rows, 0 * rows + 0 * columns], axis=-1)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("shape", [(320, 200), (200, 320), (64, 64), (128, 96)])
def test_it_is_cut_to_the_size(kind: str, shape: tuple[int, int]) -> None:
    frame = opened(first_frame(picture(*shape, kind), SIZE, PIXELS))
    assert (frame.format, frame.mode, frame.size) == ("PNG", "RGB", (128, 96))


def test_it_is_cut_as_training_cuts(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(picture(321, 203))
    trained_on = read_picture(path, width=128, height=96)
    served = np.asarray(opened(first_frame(path.read_bytes(), SIZE, PIXELS)))
    assert np.array_equal(served, trained_on)


def test_it_is_turned_upright_and_keeps_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    exif[0x010F] = "a camera"
    turned = first_frame(picture(200, 320, "JPEG", exif=exif, quality=95), SIZE, PIXELS)
    frame = opened(turned)
    assert not frame.getexif()
    assert "exif" not in frame.info
    # Red grows downwards in what is stored, so to the left in what is shown.
    pixels = np.asarray(frame).astype(int)
    assert pixels[:, 0, 0].mean() > pixels[:, -1, 0].mean() + 100


def test_transparency_and_palettes_become_colours() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (256, 192), (10, 20, 30, 0)).save(out, "PNG")
    assert opened(first_frame(out.getvalue(), SIZE, PIXELS)).getpixel((5, 5)) == (10, 20, 30)
    out = io.BytesIO()
    Image.new("P", (256, 192), 3).save(out, "PNG")
    assert opened(first_frame(out.getvalue(), SIZE, PIXELS)).mode == "RGB"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data
            + struct.pack(">I", zlib.crc32(kind + data))
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )  # fmt: skip


REFUSED = {
    "empty": (b"", Code.INVALID_IMAGE, "is empty"),
    "text": (b"not a picture at all", Code.UNSUPPORTED_MEDIA_TYPE, "PNG, JPEG, WEBP"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Code.UNSUPPORTED_MEDIA_TYPE, "PNG"),
    "gif": (picture(kind="GIF"), Code.UNSUPPORTED_MEDIA_TYPE, "PNG"),
    "tiff": (picture(kind="TIFF"), Code.UNSUPPORTED_MEDIA_TYPE, "PNG"),
    "truncated": (picture(kind="JPEG")[:900], Code.INVALID_IMAGE, "cannot be decoded"),
    "truncated png": (picture()[:-60], Code.INVALID_IMAGE, "cannot be decoded"),
    "sixty megapixels": (bomb(10_000, 6_000), Code.INVALID_IMAGE, "more than 40 million"),
    "bomb": (bomb(60_000, 60_000), Code.INVALID_IMAGE, "too large"),
    "damaged": (bomb(200, 200), Code.INVALID_IMAGE, "cannot be decoded"),
    "a hair": (picture(4000, 1), Code.INVALID_IMAGE, "keeps only 1 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    data, code, text = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        first_frame(data, Size(width=1280, height=720) if name == "a hair" else SIZE, PIXELS)
    assert caught.value.code is code
    assert text in caught.value.message
    assert caught.value.param == "input_reference"
