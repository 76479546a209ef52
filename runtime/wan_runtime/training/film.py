"""Videos and contact sheets for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Shapes: F frames, H W pixels; colours last.

Frames = NDArray[np.uint8]
"""[F, H, W, 3]."""
Pixels = NDArray[np.float32]
"""[F, H, W, 3] in [-1, 1], as the VAE gave them."""
COLUMNS = 5
LABEL_WIDTH = 96
GAP = 4


def quantize(pixels: Pixels) -> Frames:
    """[-1, 1] to uint8."""
    return ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def write_mp4(frames_FHWC: Frames, path: Path, fps: float) -> None:
    """H.264, yuv420p, index in front: plays in every browser while it loads. Height and width must
    be even.
    """
    count, height, width = frames_FHWC.shape[:3]
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread: x264's output depends on how many there are, and equal videos should be equal
        # bytes.
        stream.options = {"crf": "16", "preset": "medium", "threads": "1"}
        for index in range(count):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(frames_FHWC[index], format="rgb24"))
            )
        container.mux(stream.encode())


def contact_sheet(rows: Sequence[tuple[str, Frames]], path: Path) -> None:
    """PNG: one row of frames at equal times for each (label, video)."""
    height, width = rows[0][1].shape[1:3]
    scale = min(1.0, 320 / width)
    tile = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new(
        "RGB",
        (LABEL_WIDTH + COLUMNS * (tile[0] + GAP), len(rows) * (tile[1] + GAP) + GAP),
        (24, 26, 30),
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for row, (label, frames) in enumerate(rows):
        top = GAP + row * (tile[1] + GAP)
        draw.text((8, top + tile[1] // 2), label, fill=(235, 235, 235), font=font, anchor="lm")
        for column, index in enumerate(
            np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)
        ):
            picture = Image.fromarray(frames[index]).resize(tile, Image.Resampling.LANCZOS)
            sheet.paste(picture, (LABEL_WIDTH + column * (tile[0] + GAP), top))
    sheet.save(path)
