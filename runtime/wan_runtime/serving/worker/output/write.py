"""The files of a video, mp4 and pictures, from its frames. No GPU, no torch.

`python -m wan_runtime.serving.worker.output.write FILE` reads a `Cut`. A process of its own:
encoding takes seconds of a core, in which the supervisor must hear the ranks and these must not
wait.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wan_runtime.rendering.media import Frames, write_mp4
from wan_runtime.serving.worker.output.order import (
    FILES,
    FIRST_FRAME,
    REVIEWED,
    SPRITESHEET,
    THUMBNAIL,
    VIDEO,
    Cut,
)

# Shapes: F frames, H W pixels; colours last.

THUMBNAIL_SIDE = 512
TILE_SIDE = 320
COLUMNS, ROWS = 5, 2
"""Tiles of the spritesheet, at equal times."""
SAVED: dict[str, Any] = {"quality": 95, "subsampling": "4:4:4"}
"""Within 2 of 255 levels in the mean of a channel. WebP halves the colours' resolution always."""


def write(cut: Cut) -> None:
    """All of FILES into the folder."""
    # Pages are read by the threads that need them. A mark changes those that it is on, in memory.
    frames: Frames = np.load(cut.frames, mmap_mode="c")
    folder = Path(cut.folder)
    whole = frames[0].copy()
    if cut.visible_mark:
        mark(frames)
    with ThreadPoolExecutor(1) as beside:
        pictures = beside.submit(_pictures, cut, whole, frames)
        write_mp4(frames, folder / FILES[VIDEO], cut.fps, cut.metadata)
        pictures.result()


def _pictures(cut: Cut, whole_HWC: NDArray[np.uint8], frames: Frames) -> None:
    """All but the video. `whole_HWC`: the first frame without the mark."""
    folder = Path(cut.folder)
    Image.fromarray(whole_HWC).save(folder / FILES[FIRST_FRAME])
    first = Image.fromarray(frames[0])
    first.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    first.save(folder / FILES[THUMBNAIL], **SAVED)
    spritesheet(frames).save(folder / FILES[SPRITESHEET], **SAVED)
    for number, index in enumerate(evenly(len(frames), cut.reviewed)):
        Image.fromarray(frames[index]).save(folder / REVIEWED.format(number), **SAVED)


def evenly(count: int, wanted: int) -> list[int]:
    """Indices of frames at equal times, the first and the last among them."""
    return [round(each) for each in np.linspace(0, count - 1, wanted)]


def mark(frames_FHWC: Frames) -> None:
    """Write `AI-generated` in the lower right corner, white on half-dark."""
    height, width = frames_FHWC.shape[1:3]
    font = ImageFont.load_default(size=max(10, height // 24))
    text = "AI-generated"
    left, top, right, bottom = map(int, font.getbbox(text))
    box = Image.new("L", (min(width, right - left + 12), min(height, bottom - top + 8)), 0)
    ImageDraw.Draw(box).text((6 - left, 4 - top), text, fill=255, font=font)
    letters = np.asarray(box, np.float32)[None, :, :, None]
    rows, columns = box.height, box.width
    corner = frames_FHWC[:, height - rows :, width - columns :]
    corner[:] = np.maximum(corner * 0.5, letters).astype(np.uint8)


def spritesheet(frames_FHWC: Frames) -> Image.Image:
    """COLUMNS by ROWS frames at equal times, row by row."""
    count, height, width = frames_FHWC.shape[:3]
    scale = min(1.0, TILE_SIDE / max(height, width))
    tile = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new("RGB", (COLUMNS * tile[0], ROWS * tile[1]))
    for place, index in enumerate(evenly(count, COLUMNS * ROWS)):
        picture = Image.fromarray(frames_FHWC[index]).resize(tile, Image.Resampling.LANCZOS)
        sheet.paste(picture, (place % COLUMNS * tile[0], place // COLUMNS * tile[1]))
    return sheet


if __name__ == "__main__":
    write(Cut.model_validate_json(Path(sys.argv[1]).read_bytes()))
