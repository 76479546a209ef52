"""WanFineTune: fine-tune a Wan image-to-video model on clips in a bucket.

What this release does not act on is refused with a message, never accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, Schema, list_set, rule
from wan_operator.api.v1alpha1.common import (
    MAX_INT32,
    ApiModel,
    PodTemplate,
    Store,
    rules,
)
from wan_operator.api.v1alpha1.finetune_dataset import Bucket, Columns, Dataset, Split
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

Quantity = Annotated[
    str, Field(max_length=32), Cel("isQuantity(self)", "must be a quantity, such as 8 or 64Gi")
]


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
