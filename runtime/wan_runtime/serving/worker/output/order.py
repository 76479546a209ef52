"""The contract of the supervisor with the process that writes a video's files. Pydantic only."""

from __future__ import annotations

from wan_runtime.contract.base import Contract

VIDEO, THUMBNAIL, SPRITESHEET = "video", "thumbnail", "spritesheet"
FIRST_FRAME = "first_frame"
FILES = {
    VIDEO: "video.mp4",
    THUMBNAIL: "thumbnail.webp",
    SPRITESHEET: "spritesheet.jpg",
    FIRST_FRAME: "first-frame.png",
}
"""Variant -> name: those of OpenAI's API, and the whole first frame, which remixes start from."""
REVIEWED = "reviewed-{}.jpg"


class Cut(Contract):
    """What to write."""

    frames: str
    """Path of a NumPy file, uint8 [F, H, W, 3]."""
    folder: str
    fps: float
    metadata: dict[str, str]
    visible_mark: bool
    reviewed: int = 0
    """Frames to leave beside the files as REVIEWED, at equal times."""
