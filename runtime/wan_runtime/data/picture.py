"""A still picture as the model starts from it: upright, RGB, cut and scaled as clips are.

Pillow only: the gateway of the video service cuts photos by it, as `prepare` and `encode` cut first
frames.
"""

from __future__ import annotations

from PIL import Image, ImageOps

from wan_runtime.data.frames import crop_box

FORMATS = ("PNG", "JPEG", "WEBP")


def upright(picture: Image.Image) -> Image.Image:
    """RGB, turned as its EXIF tag says."""
    turned = ImageOps.exif_transpose(picture)
    assert turned is not None  # None only where it turns in place
    return turned.convert("RGB")


def cut(picture: Image.Image, width: int, height: int, pixel_aspect: float = 1.0) -> Image.Image:
    """The centre in the target's shape and size, scaled with antialiasing."""
    box = crop_box(picture.width, picture.height, width, height, pixel_aspect)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
