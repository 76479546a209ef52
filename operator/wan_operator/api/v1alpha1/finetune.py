"""WanFineTune: train an adapter for a Wan image-to-video model on clips in a bucket.

What this release does not act on is refused with a message, never accepted and ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, Schema, list_map, list_set, rule
from wan_operator.api.v1alpha1.common import (
    MAX_INT32,
    ApiModel,
    Artifact,
    Condition,
    ObjectName,
    PodTemplate,
    S3Uri,
    Store,
    rules,
)

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

PresetName = Literal[
    "Wan2.1-I2V-14B-720P",
    "Wan2.1-I2V-14B-480P",
    "Wan2.2-I2V-A14B",
    "Wan2.1-I2V-Tiny",
    "Wan2.2-I2V-Tiny",
]


Quantity = Annotated[
    str, Field(max_length=32), Cel("isQuantity(self)", "must be a quantity, such as 8 or 64Gi")
]


class PersistentVolumeClaimSource(ApiModel):
    claim_name: ObjectName
    path: Annotated[
        str,
        Field(max_length=1024),
        Cel(
            "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
            "must be relative to the volume's root, without '..'",
        ),
    ] = ""
    """Folder within the volume. Default: its root."""


class ModelSource(ApiModel):
    """Where the base weights are, in the layout of the official release."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.persistentVolumeClaim) != has(self.s3)",
                "set exactly one of persistentVolumeClaim and s3",
            ),
        )
    )

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """A volume that all training nodes can mount read-only."""
    s3: S3Uri | None = None
    """Fetched with the store's endpoint and credentials into the pod's cache volume."""


class Model(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.source) || self.preset.endsWith('-Tiny')",
                "name the volume or the S3 folder with the weights; "
                "only the Tiny presets make their own",
                ".source",
                reason="FieldValueRequired",
            ),
        )
    )

    preset: PresetName
    """Which Wan model."""
    source: ModelSource | None = None
    """Where its weights are. The Tiny presets need none."""


class Columns(ApiModel):
    """Names of the metadata columns."""

    video: Annotated[str, Field(min_length=1, max_length=64)] = "video"
    """Path of the clip."""
    prompt: Annotated[str, Field(min_length=1, max_length=64)] = "prompt"
    """Its caption."""
    source: Annotated[str, Field(min_length=1, max_length=64)] = "source"
    """Names the recording that a clip was cut from. Clips of one recording are never on both sides
    of the split. Without this column each clip counts as a recording of its own."""


class Split(ApiModel):
    train_percent: Annotated[int, Field(ge=50, le=99)] = 90
    """Share of recordings to train on; at least one is always held out."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Another seed holds out other recordings."""


class Dataset(ApiModel):
    source: S3Uri
    """Folder with metadata.csv, metadata.json or metadata.jsonl; clip paths are relative to it."""
    format: Literal["DiffSynth"] = "DiffSynth"
    """Of the metadata file: DiffSynth's."""
    columns: Columns = Columns()
    """Names of the metadata columns."""
    split: Split = Split()
    """Which clips are held out of training."""
    frames: (
        Annotated[
            int,
            Field(ge=5, le=241),
            Cel(
                "(self - 1) % 4 == 0",
                "must be 4n+1, the lengths that Wan's VAE can hold",
                computed="'must be 4n+1, the lengths that the VAE can hold: %d or %d, not %d'"
                ".format([self - (self - 1) % 4, self - (self - 1) % 4 + 4, self])",
            ),
        ]
        | None
    ) = None
    """Frames a clip. Default: the preset's."""
    fps: Annotated[int, Field(ge=1, le=60)] | None = None
    """Clips are resampled to it by timestamp. Default: the preset's."""
    width: Annotated[int, Field(ge=32, le=1920), MULTIPLE_OF_16] | None = None
    """Pixels; clips are scaled and cropped about their centre. Default: the preset's."""
    height: Annotated[int, Field(ge=32, le=1920), MULTIPLE_OF_16] | None = None
    """Pixels. Default: the preset's."""
    rejected_clips: Literal["Fail", "Skip"] = "Fail"
    """What one clip that fails its checks does: stop the run with its name, or be left out and
    counted."""


class Lora(ApiModel):
    rank: Annotated[int, Field(ge=1, le=512)] = 32
    """Of the low-rank matrices: more can learn more, and takes more memory."""
    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """The adapter is scaled by alpha / rank. Default: the rank."""
    dropout_percent: Annotated[int, Field(ge=0, le=90)] = 0
    """Share of adapter inputs zeroed while training."""
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]],
        list_set(),
        Field(min_length=1, max_length=16),
    ] = Field(default=["q", "k", "v", "o", "ffn.0", "ffn.2"])
    """Linear layers that get an adapter, by the end of their name."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Of AdamW, after the warm-up."""


class Full(ApiModel):
    """All weights. Fields that belong to LoRA are named here only to be refused where they are."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.rank)",
                "rank belongs to method.lora: full fine-tuning has none",
                ".rank",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.alpha)",
                "alpha belongs to method.lora: full fine-tuning has none",
                ".alpha",
                reason="FieldValueForbidden",
            ),
        )
    )

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-5
    """Of AdamW, after the warm-up."""
    rank: Annotated[int, Field(ge=1)] | None = None
    """Not allowed here."""
    alpha: Annotated[int, Field(ge=1)] | None = None
    """Not allowed here."""


class Method(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.lora) != has(self.full)", "set exactly one of lora and full"),
            rule(
                "!has(self.full)",
                "full fine-tuning is not available in this release: use method.lora",
                ".full",
                reason="FieldValueForbidden",
            ),
        )
    )

    lora: Lora | None = None
    """Low-rank adapters beside the frozen weights."""
    full: Full | None = None
    """All weights."""


class Optimizer(ApiModel):
    """AdamW."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01


class Schedule(ApiModel):
    type: Literal["Constant", "Cosine"] = "Constant"
    """Of the learning rate after the warm-up; Cosine falls to zero at the end."""
    warmup_steps: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Steps over which the learning rate rises from zero."""


class Training(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.steps) && has(self.epochs))",
                "set steps or epochs, not both",
                ".steps",
                reason="FieldValueForbidden",
            ),
        )
    )

    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Optimizer steps. Default: from epochs, datasetRepeat and the number of clips."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Default 2."""
    dataset_repeat: Annotated[int, Field(ge=1, le=1000)] = 10
    """Times each clip is seen in one epoch."""
    batch_size: Annotated[int, Field(ge=1, le=64)] = 1
    """Clips a GPU takes at once."""
    gradient_accumulation: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches summed for one optimizer step."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    max_gradient_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Longer gradients are scaled down to it."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Of the adapter, the order of clips and the noise: equal seeds train alike."""
    timestep_sampling: Literal["Uniform"] = "Uniform"
    """Noise levels are drawn uniformly from the shifted training grid of the expert."""
    loss_weighting: Literal["Uniform", "Bell"] = "Uniform"
    """Weight over noise levels within an expert. Bell is DiffSynth's; it all but silences the
    high-noise expert."""
    base_precision: Annotated[
        Literal["BF16", "FP8"],
        Cel("self != 'FP8'", "FP8 base weights are not available in this release: use BF16"),
    ] = "BF16"
    """Of the frozen weights."""
    gradient_checkpointing: Annotated[
        Literal["None", "Full", "KeepAttention", "Offload"],
        Cel(
            "self in ['None', 'Full']",
            "KeepAttention and Offload are not available in this release: use Full or None",
        ),
    ] = "Full"
    """Full keeps one activation a block and computes the rest again: slower, far less memory."""
    tiled_vae: bool = False
    """Encode clips in tiles: less GPU memory, slower."""
    attention: Annotated[
        Literal["Auto", "SDPA", "Sage"],
        Cel(
            "self != 'Sage'",
            "SageAttention has no backward pass: q, k and v adapters would get no gradient "
            "and nothing would say so. Use Auto",
        ),
    ] = "Auto"
    """Auto takes the fastest that has an exact backward pass on the GPU."""


class Parallelism(ApiModel):
    gpus_per_node: Annotated[
        int,
        Field(ge=1, le=8),
        Cel("self == 1", "training on several GPUs is not available in this release: use 1"),
    ] = 1
    """GPUs of each node."""
    nodes: Annotated[
        int,
        Field(ge=1, le=64),
        Cel("self == 1", "training on several nodes is not available in this release: use 1"),
    ] = 1
    """Nodes that train together."""


class Checkpoint(ApiModel):
    every_steps: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Optimizer steps between checkpoints; a suspended run writes one besides."""
    keep_last: Annotated[int, Field(ge=1, le=100)] = 2
    """Older ones are deleted."""


class Validation(ApiModel):
    every_steps: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Steps between evaluations of the loss at fixed (clip, noise, level) probes on held-out
    clips."""
    samples: Annotated[int, Field(ge=0, le=16)] = 1
    """Held-out first frames rendered with the base and the trained weights after training; 0
    renders none."""
    inference_steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Default: the preset's."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Of the probes and the samples."""


class Output(ApiModel):
    formats: Annotated[
        list[
            Annotated[
                Literal["DiffSynth", "ComfyUI", "Diffusers"],
                Cel("self == 'DiffSynth'", "only DiffSynth is available in this release"),
            ]
        ],
        list_set(),
        Field(min_length=1, max_length=3),
    ] = Field(default=["DiffSynth"])
    """One file each; every one is read back and compared before the run is complete."""


class Retries(ApiModel):
    """Attempts after the first, for each step, by what failed. Wrong input and numerical failures
    are never retried; a stop with a checkpoint costs nothing."""

    infrastructure: Annotated[int, Field(ge=0, le=100)] = 5
    """Lost pods and nodes, an unreachable store, refused credentials."""
    out_of_memory: Annotated[int, Field(ge=0, le=10)] = 0


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
    """A LoRA for a Wan image-to-video model, trained on clips in a bucket.

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
            *(_fixed(name) for name in ("model", "dataset", "method", "training")),
            *(_fixed(name, optional=True) for name in ("store", "experts")),
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
    """Which transformers of Wan2.2 to train, one after the other. Default: both."""
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
    """Of the GPU steps. Default: by preset."""
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


class EffectiveStore(ApiModel):
    endpoint: str
    bucket: str
    prefix: str
    region: str
    secret_name: str


class Effective(ApiModel):
    """What the operator resolved: settings, preset defaults, derived values."""

    store: EffectiveStore
    frames: int
    fps: int
    width: int
    height: int
    experts: Annotated[list[str], Field(max_length=2)]
    """`Only` for Wan2.1."""
    gpus: int
    image: Annotated[str, Field(max_length=512)]
    run_prefix: Annotated[str, Field(max_length=1024)]
    """s3:// address below which this run writes."""


class LastFailure(ApiModel):
    step: str
    attempt: int
    exit_code: int | None = None
    reason: str
    message: Annotated[str, Field(max_length=4096)] = ""
    pod: str = ""
    node: str = ""
    time: datetime


class StepStatus(ApiModel):
    name: Annotated[str, Field(max_length=32)]
    """`prepare`, `encode`, `train` (or `train-high-noise`, `train-low-noise`), `export`,
    `sample`."""
    state: Literal["Waiting", "Running", "Complete", "Failed"]
    attempts: int = 0
    """Jobs created so far."""
    infrastructure_retries: int = 0
    out_of_memory_retries: int = 0
    next_attempt_time: datetime | None = None
    """When a step in back-off starts again."""
    start_time: datetime | None = None
    completion_time: datetime | None = None
    artifact: Artifact | None = None
    summary: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=32)] = (
        Field(default={})
    )
    """Numbers that the step reported: clips, steps, probe losses."""


class ProgressStatus(ApiModel):
    """Of the running step; refreshed at most every 15 seconds."""

    step: str
    activity: str = ""
    current: int = 0
    total: int = 0
    unit: str = "steps"
    display: str = ""
    """`train 40/200`, for the Progress column."""
    eta: str = ""
    """`4m10s`, for the ETA column."""
    loss: str = ""
    time: datetime


class WanFineTuneStatus(ApiModel):
    observed_generation: int | None = None
    conditions: Annotated[list[Condition], list_map("type"), Field(max_length=16)] = Field(
        default=[]
    )
    """The condition that says most about the state comes first."""
    start_time: datetime | None = None
    completion_time: datetime | None = None
    suspended_seconds: int = 0
    """Time held by spec.suspend so far, not counted against the deadline."""
    suspended_since: datetime | None = None
    effective: Effective | None = None
    steps: Annotated[list[StepStatus], list_map("name"), Field(max_length=16)] = Field(default=[])
    progress: ProgressStatus | None = None
    artifact: Artifact | None = None
    """The exported weights, once they are committed."""
    last_failure: LastFailure | None = None
