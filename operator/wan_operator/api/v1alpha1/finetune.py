"""WanFineTune: fine-tune a Wan image-to-video model on clips in a bucket.

What this release does not act on is refused with a message, never accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Schema, list_set, rule
from wan_operator.api.v1alpha1.common import GROUP, MAX_INT32, ApiModel, Store, rules
from wan_operator.api.v1alpha1.dataset import Columns
from wan_operator.api.v1alpha1.finetune_dataset import Bucket, Dataset, Split
from wan_operator.api.v1alpha1.finetune_parallelism import EXPERT_RULES, SPREAD_RULES, Parallelism
from wan_operator.api.v1alpha1.finetune_status import (
    Effective,
    EffectiveBucket,
    EffectiveParallelism,
    EffectivePlan,
    FormatStatus,
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
    Schedule,
    Training,
    Validation,
    init_rules,
)
from wan_operator.api.v1alpha1.model import (
    Model,
)
from wan_operator.api.v1alpha1.pods import PodTemplate, ResourceOverrides
from wan_operator.api.v1alpha1.runs import Retries
from wan_operator.api.v1alpha1.syntax import names_a_service
from wan_runtime.contract.finetune import FineTuneWork
from wan_runtime.contract.model_import import ImportWork
from wan_runtime.contract.steps import FACTS

__all__ = [
    "EXPORTED",
    "KIND",
    "LABEL",
    "MEETING",
    "NAME_LIMIT",
    "PLURAL",
    "SHORT_NAME",
    "Bucket",
    "Checkpoint",
    "Columns",
    "Dataset",
    "Effective",
    "EffectiveBucket",
    "EffectiveParallelism",
    "EffectivePlan",
    "Ema",
    "FormatStatus",
    "Full",
    "InitFrom",
    "Lora",
    "Method",
    "Optimizer",
    "Output",
    "Parallelism",
    "Schedule",
    "Split",
    "Training",
    "Validation",
    "WanFineTuneSpec",
    "WanFineTuneStatus",
]

KIND = "WanFineTune"
PLURAL = "wanfinetunes"
SHORT_NAME = "wft"
LABEL = f"{GROUP}/finetune"
"""Label by which its children name it."""

NAME_LIMIT = 40
"""Longest name in characters: a Job is `<name>-<step>-<attempt>` and may have 63, its pods' names
included."""

FIXED = ("model", "dataset", "method", "training")
FIXED_OPTIONAL = ("store", "experts")
"""Fields that may be left out."""
PROBED = "validation.everySteps"
"""Fixed as well: probes decide which weights are best, and with other ones no checkpoint could be
resumed."""
WITHOUT_GPU = tuple(
    step.value
    for step, facts in FACTS.items()
    if facts.verifies and step in FineTuneWork.steps | ImportWork.steps
)
"""Steps that may have run when an edit of these fields still starts the run over."""


class WanFineTuneSpec(ApiModel):
    """A WanFineTune trains a Wan image-to-video model on clips in a bucket: a LoRA, or all weights.

    It becomes Jobs that check the dataset, encode it once, train, export the weights with checksums
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
                "self.model.preset.startsWith('Wan2.1') || !has(self.method.lora) || "
                "!self.method.lora.targetModules.exists(each, each.matches('_img$|proj[.][13]$'))",
                "only Wan2.1 attends to the picture by layers of its own: leave k_img, v_img and "
                "img_emb.proj out",
                ".method.lora.targetModules",
            ),
            rule(
                "!has(self.method.full) || !has(self.training.ema)",
                "training.ema applies to method.lora only: a mean of all weights would be a second "
                "copy of them",
                ".training.ema",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.method.full) || self.training.basePrecision == 'BF16'",
                "FP8 is for base weights that a LoRA leaves as they are: method.full trains them, "
                "so use BF16",
                ".training.basePrecision",
                reason="FieldValueForbidden",
            ),
            *(
                rule(
                    f"!(self.training.gradientCheckpointing in ['KeepAttention', 'Offload']) || "
                    f"({holds})",
                    f"KeepAttention and Offload train {what}: use Auto or Full",
                    ".training.gradientCheckpointing",
                )
                for holds, what in (
                    ("has(self.method.lora)", "a LoRA"),
                    (
                        "!has(self.method.lora) || self.method.lora.dropoutPercent == 0",
                        "without dropout",
                    ),
                )
            ),
            *init_rules("lora"),
            *init_rules("full"),
            *SPREAD_RULES,
            *EXPERT_RULES,
        )
    )

    model: Model
    """Base model to train."""
    dataset: Dataset
    """Clips to train on, and how they are cut and split."""
    method: Method = Method(lora=Lora())
    """Training method: a LoRA or all weights. Default: a LoRA."""
    experts: (
        Annotated[
            list[Literal["HighNoise", "LowNoise"]], list_set(), Field(min_length=1, max_length=2)
        ]
        | None
    ) = None
    """Transformers of Wan2.2 to train. Default: both."""
    training: Training = Training()
    """Length, batch, optimizer and other settings of the training."""
    parallelism: Parallelism = Parallelism()
    """Number of GPUs that train, how they share the work, and whether the experts of Wan2.2 train
    at the same time."""
    checkpoint: Checkpoint = Checkpoint()
    """Checkpoints, from which a restarted or resumed run continues: how often they are written, and
    how many are kept."""
    validation: Validation = Validation()
    """Evaluation on clips held out of training: loss probes, previews and samples."""
    output: Output = Output()
    """Formats of the exported weights."""
    store: Store | None = None
    """S3-compatible bucket that everything is written to. Fields left out come from the operator's
    settings; status.effective.store shows the values in use."""
    resources: ResourceOverrides = ResourceOverrides()
    """CPU, memory and scratch space of the steps that hold weights: encode, train, export and
    sample. Default: the planner's estimate."""
    pod_template: PodTemplate = PodTemplate()
    """Settings of the pods of all steps, in addition to the operator's own."""
    suspend: bool = False
    """Whether the run is held. True stops the running step after a checkpoint and starts no other;
    false resumes the run."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Seconds after which a run that is not complete fails. Time in suspension does not count.
    Default: no deadline."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    """Seconds after the end of the run at which its Jobs and pods are deleted. The WanFineTune and
    its artifacts stay. Default: Jobs and pods stay."""
    retries: Retries = Retries()
    """Number of retries of each step, by kind of failure. Numerical failures, and wrong input that
    a GPU was held for, are never retried; a stop with a checkpoint uses no retry."""


FROZEN = (
    "is fixed once a GPU has worked for the run, and once it has ended: delete and create the "
    "WanFineTune again to change it"
)
_FREE = (
    "!has(oldSelf.status) || !has(oldSelf.status.steps) || "
    "!oldSelf.status.steps.exists(step, step.state in ['Failed', 'Stopped'] || "
    f"(step.state != 'Waiting' && !(step.name in {[*WITHOUT_GPU]})))"
)


def _fixed(name: str, *, optional: bool = False) -> Schema:
    new, old = f"self.spec.{name}", f"oldSelf.spec.{name}"
    same = f"{new} == {old}"
    if optional:
        same = f"(has({new}) == has({old}) && (!has({new}) || {same}))"
    text = f"{name} {FROZEN}"
    return rule(f"{same} || {_FREE}", text, f".spec.{name}", reason="FieldValueForbidden")


FIXED_RULES = (
    *(_fixed(name) for name in (*FIXED, PROBED)),
    *(_fixed(name, optional=True) for name in FIXED_OPTIONAL),
    rule(
        "(self.spec.parallelism.experts == 'Joint') == "
        f"(oldSelf.spec.parallelism.experts == 'Joint') || {_FREE}",
        f"Joint {FROZEN}",
        ".spec.parallelism.experts",
        reason="FieldValueForbidden",
    ),
)
"""Rules over the whole object."""

EXPORTED = rule(
    "(has(self.spec.output) == has(oldSelf.spec.output) && "
    "(!has(self.spec.output) || self.spec.output == oldSelf.spec.output)) || "
    "!has(oldSelf.status) || !has(oldSelf.status.steps) || "
    "!oldSelf.status.steps.exists(step, step.name == 'export' && step.state != 'Waiting')",
    "is fixed once the export has begun: the weights are committed in these formats",
    ".spec.output",
    reason="FieldValueForbidden",
)
"""Rule over the whole object. Until the export begins, an edit takes effect: no GPU has worked on
it."""

MEETING = names_a_service(
    "must begin with a letter where parallelism.nodes is more than 1: the name of the Service by "
    "which the nodes meet begins with it",
    unless="self.spec.parallelism.nodes == 1",
)
"""Rule over the whole object."""
