"""Pictures to judge the tiny models by: what went in, what came back, frame under frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tiny_models.clip_files import Frames

COLUMNS, LABEL = 6, 12


def sheet(rows: list[tuple[str, Frames]], path: Path, scale: int = 1) -> None:
    """One row a video, COLUMNS frames of each; labels above."""
    tall, wide = rows[0][1].shape[1] * scale, rows[0][1].shape[2] * scale
    page = Image.new("RGB", (COLUMNS * wide, len(rows) * (tall + LABEL)), "white")
    draw = ImageDraw.Draw(page)
    for number, (label, frames) in enumerate(rows):
        top = number * (tall + LABEL)
        draw.text((2, top), label, fill="black")
        for column, index in enumerate(np.linspace(0, len(frames) - 1, COLUMNS).astype(int)):
            picture = Image.fromarray(frames[index]).resize((wide, tall), Image.Resampling.NEAREST)
            page.paste(picture, (column * wide, top + LABEL))
    page.save(path)
