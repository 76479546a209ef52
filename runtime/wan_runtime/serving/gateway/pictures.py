"""The uploaded first frame: checked, upright, in sRGB, cropped as in training; no more is kept."""

from __future__ import annotations

import io

from wan_runtime.contract.service import Size
from wan_runtime.data.frames import crop_box
from wan_runtime.data.picture import cut, read
from wan_runtime.data.rejected import PictureRejected
from wan_runtime.serving.problems import Code, Refusal

PARAM = "input_reference"
SMALLEST = 16
"""Pixels that the shorter side must keep; what is smaller is only blur when enlarged."""


def first_frame(data: bytes, size: Size, max_pixels: int) -> bytes:
    """PNG of exactly `size`, RGB, without metadata: the centre of the picture, as clips are cut.

    Raises:
        Refusal: UNSUPPORTED_MEDIA_TYPE, INVALID_IMAGE.
    """
    try:
        whole = read(data, max_pixels)
    except PictureRejected as rejected:
        code = Code.UNSUPPORTED_MEDIA_TYPE if rejected.unsupported else Code.INVALID_IMAGE
        raise Refusal(code, f"{PARAM} {rejected.message}", param=PARAM) from rejected
    box = crop_box(whole.width, whole.height, size.width, size.height)
    kept = min(box[2] - box[0], box[3] - box[1])
    if kept < SMALLEST:
        raise Refusal(
            Code.INVALID_IMAGE,
            f"{PARAM} of {whole.width}x{whole.height} keeps only {kept:.0f} pixels across when cut "
            f"to the shape of {size}: send a larger one",
            param=PARAM,
        )
    out = io.BytesIO()
    cut(whole, size.width, size.height).save(out, "PNG")
    return out.getvalue()
