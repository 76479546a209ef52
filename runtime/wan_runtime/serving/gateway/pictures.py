"""The uploaded first frame: checked, upright, cropped as in training, nothing else kept of it."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from wan_runtime.data.frames import crop_box
from wan_runtime.data.picture import FORMATS, cut, upright
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.service import Size

PARAM = "input_reference"
SMALLEST = 16
"""Pixels that the shorter side must keep; what is smaller is only blur when enlarged."""


def first_frame(data: bytes, size: Size, max_pixels: int) -> bytes:
    """PNG of exactly `size`, RGB, without metadata: the centre of the picture, as clips are cut.

    The size is read from the header before anything is decoded.

    Raises:
        Refusal: UNSUPPORTED_MEDIA_TYPE, INVALID_IMAGE.
    """
    if not data:
        raise Refusal(Code.INVALID_IMAGE, "input_reference is empty", param=PARAM)
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise Refusal(
            Code.UNSUPPORTED_MEDIA_TYPE,
            f"input_reference is no picture of {', '.join(FORMATS)}",
            param=PARAM,
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many(str(error)) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise _damaged(error) from error
    with picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise _too_many(f"{width}x{height} is more than {max_pixels / 1e6:.0f} million pixels")
        try:
            whole = upright(picture)
        except Image.DecompressionBombError as error:
            raise _too_many(str(error)) from error
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise _damaged(error) from error
    box = crop_box(whole.width, whole.height, size.width, size.height)
    kept = min(box[2] - box[0], box[3] - box[1])
    if kept < SMALLEST:
        raise Refusal(
            Code.INVALID_IMAGE,
            f"input_reference of {width}x{height} keeps only {kept:.0f} pixels across when cut to "
            f"the shape of {size}: send a larger one",
            param=PARAM,
        )
    out = io.BytesIO()
    cut(whole, size.width, size.height).save(out, "PNG")
    return out.getvalue()


def _damaged(error: Exception) -> Refusal:
    return Refusal(Code.INVALID_IMAGE, f"input_reference cannot be decoded: {error}", param=PARAM)


def _too_many(text: str) -> Refusal:
    return Refusal(Code.INVALID_IMAGE, f"input_reference is too large: {text}", param=PARAM)
