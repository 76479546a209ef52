"""Host memory that a training needs, against what the spec allows its pods.

Without `resources.memory` a pod requests what is planned, and waits for a node that has it. With
less, it would be killed once it has trained: after fetching, loading and compiling on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec
from wan_operator.reconcile.gpus import way_out
from wan_operator.resources.quantity import amount
from wan_runtime.planner.host import gib_to_train
from wan_runtime.planner.spread import offloaded_gib
from wan_runtime.planner.terms import host_gib
from wan_runtime.planner.workload import GIB, Training

SURELY_OFFLOADED = 0.8
"""Share of what is planned for ZeRO's states that they take at least."""


def has_room(spec: WanFineTuneSpec, work: Training) -> bool:
    """Whether pods may have all the host memory that is planned for their training."""
    allowed = _allowed_gib(spec)
    return allowed is None or allowed >= gib_to_train(work)


def may_have_room(spec: WanFineTuneSpec, work: Training) -> bool:
    """Whether it may be named as a change that fits. What ZeRO offloads is named with all the host
    memory that is planned for it, so pods must be allowed that."""
    if work.spread.offload != "None":
        return has_room(spec, work)
    return shortage(spec, work) is None


@dataclass(frozen=True, slots=True)
class Shortage:
    """Pods may have less host memory than training surely keeps there."""

    text: str
    """How much it keeps, and how much there may be."""
    changes: list[str]
    """Changes of which each alone helps."""

    @property
    def refusal(self) -> str:
        return f"{self.text}: {way_out(self.changes)}"


def shortage(spec: WanFineTuneSpec, work: Training) -> Shortage | None:
    """What the pods lack in host memory; None if they may have enough."""
    allowed = _allowed_gib(spec)
    if allowed is None:
        return None
    kept = host_gib(work) if work.checkpointing == "Offload" else 0.0
    kept = kept * work.spread.gpus_per_node + SURELY_OFFLOADED * offloaded_gib(work)
    if allowed >= kept:
        return None
    return Shortage(
        f"training keeps at least {kept:.0f} GiB in the host memory of each pod, and "
        f"spec.resources.memory is {spec.resources.memory}",
        enough(work),
    )


def enough(work: Training) -> list[str]:
    """Changes of which each alone allows a training its host memory."""
    return [f"resources.memory: {math.ceil(gib_to_train(work))}Gi", "no resources.memory"]


def unlimited(spec: WanFineTuneSpec) -> WanFineTuneSpec:
    """The run whose pods may have any host memory."""
    resources = spec.resources.model_copy(update={"memory": None})
    return spec.model_copy(update={"resources": resources})


def _allowed_gib(spec: WanFineTuneSpec) -> float | None:
    memory = spec.resources.memory
    return None if memory is None else float(amount(memory)) / GIB
