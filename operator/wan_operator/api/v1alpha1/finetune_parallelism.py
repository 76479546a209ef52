"""WanFineTune.spec.parallelism: the GPUs that train, and what each of them holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, Schema, rule
from wan_operator.api.v1alpha1.common import ApiModel, rules
from wan_runtime.planner.architecture import HEADS, TINY_HEADS
from wan_runtime.planner.remedies import MOST_ON_A_NODE


def _shares(heads: int) -> list[int]:
    return [count for count in range(1, MOST_ON_A_NODE + 1) if heads % count == 0]


_SHARES = f"(self.model.preset.endsWith('-Tiny') ? {_shares(TINY_HEADS)} : {_shares(HEADS)})"
_GPUS = "self.parallelism.gpusPerNode * self.parallelism.nodes"
_CLIPS = "self.training.batchSize * self.training.gradientAccumulation"
_GIVEN = "has(self.parallelism.sequence)"
_EVENLY = (
    "the GPUs must share the batchSize x gradientAccumulation clips of an optimizer step evenly"
)

_IS_VARIABLE = "name.matches('^(NCCL|TORCH_NCCL|GLOO)_[A-Z0-9_]{1,50}$')"
_VARIABLE = "begin with NCCL_, TORCH_NCCL_ or GLOO_, and go on with A to Z, 0 to 9 and _"

SPREAD_RULES: tuple[Schema, ...] = (
    rule(
        f"!{_GIVEN} || self.parallelism.sequence in {_SHARES}",
        f"sequence must divide the model's attention heads, of which each GPU takes as many: "
        f"{HEADS}, or {TINY_HEADS} for a Tiny preset",
        ".parallelism.sequence",
        computed="'sequence must divide the model\\'s attention heads, of which each GPU takes as "
        f"many: {HEADS}, or {TINY_HEADS} for a Tiny preset; it is %d'"
        ".format([self.parallelism.sequence])",
    ),
    rule(
        f"!{_GIVEN} || {_GPUS} < 1 || {_CLIPS} * self.parallelism.sequence % ({_GPUS}) == 0",
        f"{_EVENLY}, in groups of parallelism.sequence that share a clip",
        ".parallelism",
        computed="'%d GPUs, %d for each clip, cannot share the clips of an optimizer step evenly, "
        "training.batchSize x gradientAccumulation = %d: set gradientAccumulation to a multiple of "
        f"%d'.format([{_GPUS}, self.parallelism.sequence, {_CLIPS}, "
        f"{_GPUS} / self.parallelism.sequence])",
    ),
    rule(
        f"{_GIVEN} || {_GPUS} < 1 || {_SHARES}.exists(count, "
        f"self.parallelism.gpusPerNode % count == 0 && {_CLIPS} * count % ({_GPUS}) == 0)",
        f"{_EVENLY}, or split them within a node",
        ".parallelism",
        computed="'%d GPUs cannot share the clips of an optimizer step evenly, training.batchSize "
        "x gradientAccumulation = %d: set gradientAccumulation to a multiple of %d'"
        f".format([{_GPUS}, {_CLIPS}, {_GPUS}])",
    ),
    *(
        rule(
            f"!has(self.parallelism.zeroStage) || self.parallelism.zeroStage == 0 || {without}",
            f"DeepSpeed does not go together with {what}: set zeroStage to 0, or leave it out",
            ".parallelism.zeroStage",
            reason="FieldValueForbidden",
        )
        for without, what in (
            ("!has(self.training.ema)", "training.ema"),
            ("self.training.basePrecision == 'BF16'", "base weights in FP8"),
        )
    ),
    rule(
        "!has(self.parallelism.zeroStage) || self.parallelism.zeroStage != 3 || "
        "!(self.training.gradientCheckpointing in ['KeepAttention', 'Offload'])",
        "under ZeRO 3 a block can keep its input alone: use Auto or Full",
        ".training.gradientCheckpointing",
    ),
    rule(
        f"{_GPUS} == 1 || !has(self.method.lora) || self.method.lora.dropoutPercent == 0",
        "what dropout sets to zero would depend on the number of GPUs: use 0, or one GPU",
        ".method.lora.dropoutPercent",
        reason="FieldValueForbidden",
    ),
)
"""Rules over the whole spec."""

_JOINT = "self.parallelism.experts != 'Joint'"
EXPERT_RULES: tuple[Schema, ...] = (
    rule(
        "self.parallelism.experts == 'Sequential' || "
        "(self.model.preset.startsWith('Wan2.2') && "
        "(!has(self.experts) || self.experts.size() == 2))",
        "only the two experts of Wan2.2 can train in parallel, or in one Job: use Sequential",
        ".parallelism.experts",
        reason="FieldValueForbidden",
    ),
    rule(
        f"{_JOINT} || !has(self.training.steps) || self.training.steps >= 2",
        "must be at least 2 where parallelism.experts is Joint: one for each expert",
        ".training.steps",
    ),
    rule(
        f"{_JOINT} || !has(self.method.lora) || self.method.lora.dropoutPercent == 0",
        "what dropout sets to zero in one expert would depend on the steps of the other where "
        "parallelism.experts is Joint: use 0, or Sequential",
        ".method.lora.dropoutPercent",
        reason="FieldValueForbidden",
    ),
)
"""Rules over the whole spec."""


class Parallelism(ApiModel):
    """GPUs that train one transformer together. An optimizer step has batchSize x
    gradientAccumulation clips on any number of them, and results differ by rounding alone."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.sequence) || self.sequence < 1 || self.gpusPerNode % self.sequence == 0",
                "sequence must divide gpusPerNode: the GPUs that share a clip are in one node",
                ".sequence",
                computed="'sequence must divide gpusPerNode, %d: the GPUs that share a clip are in "
                "one node; it is %d'.format([self.gpusPerNode, self.sequence])",
            ),
            rule(
                "!has(self.offload) || self.offload == 'None' || "
                "(has(self.zeroStage) && self.zeroStage >= 2)",
                "ZeRO is what offloads: set zeroStage to 2 or 3",
                ".offload",
            ),
            rule(
                "!has(self.offload) || self.offload != 'OptimizerAndParameters' || "
                "!has(self.zeroStage) || self.zeroStage != 2",
                "ZeRO 2 has all parameters on each GPU: use Optimizer, or zeroStage 3",
                ".offload",
            ),
        )
    )

    gpus_per_node: Annotated[
        int,
        Field(ge=1, le=MOST_ON_A_NODE),
    ] = 1
    """Number of GPUs per node that train. The other steps take one GPU each."""
    nodes: Annotated[
        int,
        Field(ge=1, le=64),
    ] = 1
    """Number of nodes that train together: one pod each, which must reach each other at all ports.
    """
    sequence: Annotated[int, Field(ge=1, le=MOST_ON_A_NODE)] | None = None
    """Number of GPUs of a node that split the tokens of one clip, so that each needs less memory
    for it. The others take clips of their own. Default: the smallest number with which the clips
    can be shared evenly and the planner is sure that they fit; status.effective.parallelism shows
    it."""
    zero_stage: Literal[0, 2, 3] | None = None
    """Stage of DeepSpeed's ZeRO, which divides over the GPUs what does not fit each of them. 0:
    nothing, and DeepSpeed is not used; 2: gradients and the optimizer's states; 3: weights too.
    Default: 0 for a LoRA; for method.full the first with which the planner is sure that it fits."""
    offload: Literal["None", "Optimizer", "OptimizerAndParameters"] | None = None
    """State that ZeRO keeps in host memory, which the pods then request: the optimizer's, with the
    gradients, or the parameters too. It is slower. Default: the first with which the planner is
    sure that it fits."""
    environment: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=256)]],
            Field(max_length=32),
            Cel(
                f"self.all(name, {_IS_VARIABLE})",
                f"names must {_VARIABLE}",
                computed=f"'these names do not {_VARIABLE}: %s'"
                f".format([self.filter(name, !{_IS_VARIABLE})])",
            ),
        ]
        | None
    ) = None
    """Environment variables of NCCL and Gloo in the pods that train, such as NCCL_SOCKET_IFNAME.
    """
    experts: Literal["Sequential", "Parallel", "Joint"] = "Sequential"
    """Order in which the two transformers of Wan2.2 train. Sequential: one after the other.
    Parallel: at the same time, each in a Job on GPUs of its own, which takes twice the GPUs and
    half the time. Joint: in one Job with both on its GPUs. The noise level of each optimizer step
    is drawn first, and the step trains the transformer that it falls to: training.steps and epochs
    count the steps of both, of which 36 percent fall to HighNoise. Each transformer is trained as
    if alone for so many steps."""
