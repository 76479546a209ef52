"""WanFineTune: fine-tune a Wan image-to-video model on clips in a bucket.

What this release does not act on is refused with a message, never accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, Schema, list_map, list_set, rule
from wan_operator.api.v1alpha1.common import (
    MAX_BUCKETS,
    MAX_INT32,
    ApiModel,
    PodTemplate,
    S3Uri,
    Store,
    rules,
)
from wan_operator.api.v1alpha1.finetune_model import (
    Model,
    ModelSource,
    PersistentVolumeClaimSource,
    PresetName,
)
from wan_operator.api.v1alpha1.finetune_status import (
    CheckpointStatus,
    Effective,
    EffectiveBucket,
    EffectivePlan,
    EffectiveStore,
    FormatStatus,
    LastFailure,
    ProgressStatus,
    StepStatus,
    WanFineTuneStatus,
)
from wan_operator.api.v1alpha1.finetune_training import (
    Checkpoint,
    Ema,
    Full,
    InitFrom,
    Lora,
    Method,
    Optimizer,
    Output,
    Parallelism,
    Schedule,
    Training,
    Validation,
    init_rules,
)

__all__ = [
    "EXPORTED",
    "KIND",
    "NAME_LIMIT",
    "PLURAL",
    "SHORT_NAME",
    "Bucket",
    "Checkpoint",
    "CheckpointStatus",
    "Columns",
    "Dataset",
    "Effective",
    "EffectiveBucket",
    "EffectivePlan",
    "EffectiveStore",
    "Ema",
    "FormatStatus",
    "Full",
    "InitFrom",
    "LastFailure",
    "Lora",
    "Method",
    "Model",
    "ModelSource",
    "Optimizer",
    "Output",
    "Parallelism",
    "PersistentVolumeClaimSource",
    "PresetName",
    "ProgressStatus",
    "ResourceOverrides",
    "Retries",
    "Schedule",
    "Split",
    "StepStatus",
    "Training",
    "Validation",
    "WanFineTuneSpec",
    "WanFineTuneStatus",
]

KIND = "WanFineTune"
PLURAL = "wanfinetunes"
SHORT_NAME = "wft"

NAME_LIMIT = 40
"""Characters: a Job is `<name>-<step>-<attempt>` and may have 63, its pods' names included."""

FROZEN = "is fixed once the run exists: delete and create the WanFineTune again to change it"

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
Quantity = Annotated[
    str, Field(max_length=32), Cel("isQuantity(self)", "must be a quantity, such as 8 or 64Gi")
]


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


class Retries(ApiModel):
    """Attempts after the first, for each step, by what failed. Wrong input and numerical failures
    are never retried; a stop with a checkpoint costs nothing."""

    infrastructure: Annotated[int, Field(ge=0, le=100)] = 5
    """Lost pods and nodes, an unreachable store, refused credentials."""
    out_of_memory: Annotated[int, Field(ge=0, le=10)] = 0
    """GPU or host memory. The next attempt is no smaller: it helps where others had taken it."""


class ResourceOverrides(ApiModel):
    cpu: Quantity | None = None
    """Requested, such as 8."""
    memory: Quantity | None = None
    """Requested and the limit, such as 64Gi."""
    cache: Quantity | None = None
    """Size limit of the pod's scratch volume, which holds base weights and latents."""


def _fixed(name: str, *, optional: bool = False) -> Schema:
    same = f"self.{name} == oldSelf.{name}"
    if optional:
        same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
    return rule(same, f"{name} {FROZEN}", f".{name}", reason="FieldValueForbidden")


class WanFineTuneSpec(ApiModel):
    """A Wan image-to-video model fine-tuned on clips in a bucket: a LoRA, or all weights.

    Becomes Jobs that check the dataset, encode it once, train, export the weights with checksums
    and render samples."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.model.preset.startsWith('Wan2.2') || !has(self.experts)",
                "only Wan2.2 has experts: leave the field out",
                ".experts",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.method.full) || !has(self.training.ema)",
                "a mean of all weights would need another copy of them: it is for method.lora",
                ".training.ema",
                reason="FieldValueForbidden",
            ),
            *init_rules("lora"),
            *init_rules("full"),
            rule(
                "self.parallelism.experts == 'Sequential' || "
                "(self.model.preset.startsWith('Wan2.2') && "
                "(!has(self.experts) || self.experts.size() == 2))",
                "only the two experts of Wan2.2 can train in parallel: use Sequential",
                ".parallelism.experts",
                reason="FieldValueForbidden",
            ),
            *(_fixed(name) for name in ("model", "dataset", "method", "training")),
            *(_fixed(name, optional=True) for name in ("store", "experts")),
            # Probes decide which weights are best: with other ones, no checkpoint could be resumed.
            _fixed("validation.everySteps"),
        )
    )

    model: Model
    """The base model."""
    dataset: Dataset
    """The clips to train on."""
    method: Method = Method(lora=Lora())
    """What is trained."""
    experts: (
        Annotated[
            list[Literal["HighNoise", "LowNoise"]], list_set(), Field(min_length=1, max_length=2)
        ]
        | None
    ) = None
    """Which transformers of Wan2.2 to train. Default: both."""
    training: Training = Training()
    """How it is trained."""
    parallelism: Parallelism = Parallelism()
    """GPUs of the training step."""
    checkpoint: Checkpoint = Checkpoint()
    """What a restart or a suspended run goes on from."""
    validation: Validation = Validation()
    """How well it learns, seen on clips held out of training."""
    output: Output = Output()
    """The exported weights."""
    store: Store | None = None
    """Where everything is written. Default: the operator's settings."""
    resources: ResourceOverrides = ResourceOverrides()
    """Of the steps that hold weights: encode, train, export, sample. Default: by the planner."""
    pod_template: PodTemplate = PodTemplate()
    """Of the pods of all steps."""
    suspend: bool = False
    """Stops the running step after a checkpoint and holds the run; false resumes it."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Fails the run when it takes longer, suspended time not counted."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    """Removes the Jobs and pods that long after the end. The WanFineTune and its artifacts stay."""
    retries: Retries = Retries()
    """How often a failed step is tried again."""


EXPORTED = rule(
    "(has(self.spec.output) == has(oldSelf.spec.output) && "
    "(!has(self.spec.output) || self.spec.output == oldSelf.spec.output)) || "
    "!has(oldSelf.status) || !has(oldSelf.status.steps) || "
    "!oldSelf.status.steps.exists(step, step.name == 'export' && step.state != 'Waiting')",
    "is fixed once the export has begun: the weights are committed in these formats",
    ".spec.output",
    reason="FieldValueForbidden",
)
"""Of the whole object. Before, an edit is heeded: no GPU has worked on it."""
