"""The dataset of a fine-tune, as a job file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wan_runtime.contract.base import Contract

DatasetFormat = Literal["DiffSynth", "Musubi", "Folder", "WebDataset"]
WindowKind = Literal["First", "Middle", "Spread"]


class Columns(Contract):
    video: str = "video"
    prompt: str = "prompt"
    source: str = "source"
    """Names the recording that a clip was cut from; clips of one recording never straddle the
    split. Without the column, each clip counts as a recording of its own."""
    first_frame: str = "input_image"
    """A picture to start from instead of the clip's own first frame."""
    control_video: str = "control_video"
    vace_video: str = "vace_video"
    """These two are checked and recorded; no preset is conditioned on them."""


class Bucket(Contract):
    """A size and a length that clips are cut to. Clips of one batch share a bucket."""

    width: int
    height: int
    """Pixels."""
    frames: int
    """4n+1."""

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


class DatasetSpec(Contract):
    source: str
    """s3://bucket/prefix of a folder; all paths in the dataset are relative to it."""
    format: DatasetFormat = "DiffSynth"
    columns: Columns = Columns()
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)]
    """Every clip is cut to the one that suits it best."""
    fps: float
    window: WindowKind = "First"
    """Which frames of a longer clip are trained on."""
    windows_per_clip: int = 1
    """Number of windows cut from each clip if `window` is Spread."""
    train_fraction: float = 0.9
    split_seed: int = 0
    rejected_clips: Literal["Fail", "Skip"] = "Fail"
    """What one bad clip does: fail the run with its name, or leave it out."""
