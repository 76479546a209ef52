"""The uploaded first frame."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from photos import png
from wan_runtime.contract.service import Size
from wan_runtime.serving.gateway.pictures import first_frame
from wan_runtime.serving.problems import Code, Refusal

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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("shape", [(320, 200), (200, 320), (64, 64), (128, 96)])
def test_it_is_cut_to_the_size(kind: str, shape: tuple[int, int]) -> None:
    frame = opened(first_frame(picture(*shape, kind), SIZE, PIXELS))
    assert (frame.format, frame.mode, frame.size) == ("PNG", "RGB", (128, 96))


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


REFUSED = {
    "empty": (b"", Code.INVALID_IMAGE, "is empty"),
    "text": (b"not a picture at all", Code.UNSUPPORTED_MEDIA_TYPE, "send a JPEG or PNG"),
    "tiff": (picture(kind="TIFF"), Code.UNSUPPORTED_MEDIA_TYPE, "is TIFF, which is not read"),
    "truncated": (picture(kind="JPEG")[:900], Code.INVALID_IMAGE, "cannot be decoded"),
    "sixty megapixels": (
        png(np.zeros((9, 9, 3), np.uint8), size=(10_000, 6_000)),
        *(Code.INVALID_IMAGE, "has 10000x6000 pixels, more than 40 million"),
    ),
    "a hair": (picture(4000, 1), Code.INVALID_IMAGE, "keeps only 1 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    data, code, text = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        first_frame(data, Size(width=1280, height=720) if name == "a hair" else SIZE, PIXELS)
    assert caught.value.code is code
    assert caught.value.message.startswith("input_reference ")
    assert text in caught.value.message
    assert caught.value.param == "input_reference"
