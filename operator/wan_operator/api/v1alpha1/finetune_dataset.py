"""WanFineTune.spec.dataset: which clips are trained on, and how they are cut and split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, list_map, rule
from wan_operator.api.v1alpha1.common import MAX_BUCKETS, MAX_INT32, ApiModel, S3Uri, rules

MULTIPLE_OF_16 = Cel(
    "self % 16 == 0",
    "must be a multiple of 16",
    computed="'must be a multiple of 16: %d or %d, not %d'"
    ".format([self - self % 16, self - self % 16 + 16, self])",
)

FOUR_N_PLUS_1 = Cel(
    "(self - 1) % 4 == 0",
    "must be 4n+1, the lengths that Wan's VAE can hold",
    computed="'must be 4n+1, the lengths that the VAE can hold: %d or %d, not %d'"
    ".format([self - (self - 1) % 4, self - (self - 1) % 4 + 4, self])",
)

Side = Annotated[int, Field(ge=32, le=1920), MULTIPLE_OF_16]
Frames = Annotated[int, Field(ge=5, le=241), FOUR_N_PLUS_1]


class Columns(ApiModel):
    """Names of the metadata columns. Those from `source` on may be missing in the data."""

    video: Annotated[str, Field(min_length=1, max_length=64)] = "video"
    """Path of the clip. DiffSynth only."""
    prompt: Annotated[str, Field(min_length=1, max_length=64)] = "prompt"
    """Its caption. DiffSynth, and JSON members of WebDataset."""
    source: Annotated[str, Field(min_length=1, max_length=64)] = "source"
    """Names the recording that a clip was cut from. Clips of one recording are never on both sides
    of the split. Without this column each clip counts as a recording of its own."""
    first_frame: Annotated[str, Field(min_length=1, max_length=64)] = "input_image"
    """Picture to start from. Without this column, or where it is empty, the clip's own first
    frame."""
    control_video: Annotated[str, Field(min_length=1, max_length=64)] = "control_video"
    """Checked and recorded, not trained on; in Musubi's files it is control_path."""
    vace_video: Annotated[str, Field(min_length=1, max_length=64)] = "vace_video"
    """Checked and recorded, not trained on."""


class Split(ApiModel):
    train_percent: Annotated[int, Field(ge=50, le=99)] = 90
    """Share of recordings to train on; at least one is always held out."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Another seed holds out other recordings."""


class Bucket(ApiModel):
    """A size and a length that clips are cut to."""

    width: Side
    """Pixels."""
    height: Side
    """Pixels."""
    frames: Frames
    """At the dataset's fps."""


class Dataset(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.format == 'DiffSynth' || self.columns.video == 'video'",
                "columns.video is for the format DiffSynth: the others say which file is the clip",
                ".columns.video",
                reason="FieldValueForbidden",
            ),
            rule(
                "self.format in ['DiffSynth', 'WebDataset'] || self.columns.prompt == 'prompt'",
                "columns.prompt is for the formats DiffSynth and WebDataset",
                ".columns.prompt",
                reason="FieldValueForbidden",
            ),
            rule(
                "self.format != 'Musubi' || (self.columns.controlVideo == 'control_video' && "
                "self.columns.vaceVideo == 'vace_video')",
                "the format Musubi names control videos control_path, and knows no VACE videos",
                ".columns",
                reason="FieldValueForbidden",
            ),
            rule(
                "self.format != 'Folder' || (self.columns.source == 'source' && "
                "self.columns.firstFrame == 'input_image' && "
                "self.columns.controlVideo == 'control_video' && "
                "self.columns.vaceVideo == 'vace_video')",
                "the format Folder has no columns: leave them out",
                ".columns",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.buckets) || !(has(self.frames) || has(self.width) || has(self.height))",
                "buckets say width, height and frames: leave the three out",
                ".buckets",
                reason="FieldValueForbidden",
            ),
            rule(
                "self.window == 'Spread' || !has(self.windowsPerClip)",
                "windowsPerClip is for the window Spread: First and Middle are one window",
                ".windowsPerClip",
                reason="FieldValueForbidden",
            ),
        )
    )

    source: S3Uri
    """Folder of the dataset; all paths in it are relative to this one."""
    format: Literal["DiffSynth", "Musubi", "Folder", "WebDataset"] = "DiffSynth"
    """DiffSynth: metadata.csv, .json or .jsonl. Musubi: one .toml with its JSON lines files or
    folders. Folder: clips, each with its caption in a .txt beside it. WebDataset: .tar shards."""
    conditioning: Annotated[
        Literal["FirstFrame", "ControlVideo", "VACE"],
        Cel(
            "self == 'FirstFrame'",
            "no preset of this release takes a control or VACE video: use FirstFrame",
        ),
    ] = "FirstFrame"
    """What the model is given besides the caption."""
    columns: Columns = Columns()
    """Names of the metadata columns."""
    split: Split = Split()
    """Which clips are held out of training."""
    frames: Frames | None = None
    """Frames a clip. Default: the preset's."""
    fps: Annotated[int, Field(ge=1, le=60)] | None = None
    """Clips are resampled to it by timestamp. Default: the preset's."""
    width: Side | None = None
    """Pixels; clips are scaled and cropped about their centre. Default: the preset's."""
    height: Side | None = None
    """Pixels. Default: the preset's."""
    buckets: (
        Annotated[
            list[Bucket],
            list_map("width", "height", "frames"),
            Field(min_length=1, max_length=MAX_BUCKETS),
        ]
        | None
    ) = None
    """Several sizes and lengths in place of the three. A clip goes to the one that crops least of
    those that it fills, of these to the longest. A batch holds clips of one bucket."""
    window: Literal["First", "Middle", "Spread"] = "First"
    """Which part of a longer clip is trained on. Spread takes several, from the beginning to the
    end; each counts as a clip in an epoch."""
    windows_per_clip: Annotated[int, Field(ge=2, le=16)] | None = None
    """Of Spread; fewer where more would share over half of their frames. Default 2."""
    encode_parallelism: Annotated[int, Field(ge=1, le=8)] = 1
    """Jobs that encode a part of the clips each, at the same time, on a GPU each. Worth it for
    thousands of clips: every one of them loads the encoders."""
    rejected_clips: Literal["Fail", "Skip"] = "Fail"
    """What one clip that fails its checks does: stop the run with its name, or be left out and
    counted."""
