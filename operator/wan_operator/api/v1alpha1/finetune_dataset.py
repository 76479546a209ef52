"""WanFineTune.spec.dataset: which clips are trained on, and how they are cut and split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, list_map, rule
from wan_operator.api.v1alpha1.common import MAX_BUCKETS, MAX_INT32, ApiModel, rules
from wan_operator.api.v1alpha1.dataset import COLUMN_RULES, Columns
from wan_operator.api.v1alpha1.model import Frames, Side
from wan_operator.api.v1alpha1.syntax import S3Uri


class Split(ApiModel):
    """Division of the recordings into those to train on and those held out for probes, previews and
    samples."""

    train_percent: Annotated[int, Field(ge=50, le=99)] = 90
    """Percentage of the recordings to train on. At least one recording is always held out."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Random seed of the split. Another seed holds out other recordings."""


class Bucket(ApiModel):
    """Size and length that clips are cut to."""

    width: Side
    """Width in pixels, a multiple of 16."""
    height: Side
    """Height in pixels, a multiple of 16."""
    frames: Frames
    """Length in frames at the dataset's fps, of the form 4n+1."""


class Dataset(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            *COLUMN_RULES,
            rule(
                "!has(self.buckets) || !(has(self.frames) || has(self.width) || has(self.height))",
                "each bucket has a width, height and frames of its own: leave dataset.width, "
                "dataset.height and dataset.frames out",
                ".buckets",
                reason="FieldValueForbidden",
            ),
            rule(
                "self.window == 'Spread' || !has(self.windowsPerClip)",
                "windowsPerClip applies to the window Spread only: the others take one window",
                ".windowsPerClip",
                reason="FieldValueForbidden",
            ),
        )
    )

    source: S3Uri
    """S3 folder of the dataset. All paths in the dataset are relative to it."""
    format: Literal["DiffSynth", "Musubi", "Folder", "WebDataset"] = "DiffSynth"
    """Layout of the dataset. DiffSynth: metadata.csv, .json or .jsonl. Musubi: one .toml with its
    JSON lines files or folders. Folder: clips, each with its caption in a .txt file beside it.
    WebDataset: .tar shards."""
    conditioning: Annotated[
        Literal["FirstFrame", "ControlVideo", "VACE"],
        Cel(
            "self == 'FirstFrame'",
            "control and VACE videos are not available in this release: use FirstFrame",
        ),
    ] = "FirstFrame"
    """Input of the model besides the caption. Only FirstFrame is available in this release."""
    columns: Columns = Columns()
    """Names of the columns in the dataset's metadata."""
    split: Split = Split()
    """Division of the recordings into those to train on and those held out for probes, previews and
    samples."""
    frames: Frames | None = None
    """Length of a training clip in frames, of the form 4n+1. Default: the preset's."""
    fps: Annotated[int, Field(ge=1, le=60)] | None = None
    """Frames per second that clips are resampled to, by timestamp. Default: the preset's."""
    width: Side | None = None
    """Width of a training clip in pixels, a multiple of 16. Clips are scaled, and cropped about
    their centre. Default: the preset's."""
    height: Side | None = None
    """Height of a training clip in pixels, a multiple of 16. Default: the preset's."""
    buckets: (
        Annotated[
            list[Bucket],
            list_map("width", "height", "frames"),
            Field(min_length=1, max_length=MAX_BUCKETS),
        ]
        | None
    ) = None
    """Sizes and lengths to train on, in place of one width, height and frames. A clip goes to the
    bucket that crops it least among those that it fills without being enlarged, and of these to the
    longest. A batch holds clips of one bucket."""
    window: Literal["First", "Middle", "Spread"] = "First"
    """Part of a longer clip that is trained on. First and Middle take one window. Spread takes
    several from the beginning to the end of the clip, each of which counts as a clip in an epoch.
    """
    windows_per_clip: Annotated[int, Field(ge=2, le=16)] | None = None
    """Number of windows that Spread takes from a clip, or fewer where neighbours would share more
    than half of their frames. Default: 2."""
    encode_parallelism: Annotated[int, Field(ge=1, le=8)] = 1
    """Number of Jobs that encode the clips at the same time, each a part of them on a GPU of its
    own. More than one pays off for thousands of clips, because every Job loads the encoders."""
    rejected_clips: Literal["Fail", "Skip"] = "Fail"
    """Effect of a clip that fails its checks. Fail: the run stops and names the clip. Skip: the
    clip is left out and counted."""
