"""What `spec.parallelism` leaves open, chosen by the planner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import get_args

from pydantic import ValidationError

from wan_operator.api.v1alpha1.finetune import Effective, EffectiveParallelism, WanFineTuneSpec
from wan_runtime.contract.training import Offload, Parallelism, Stage
from wan_runtime.planner.architecture import HEADS, TINY_HEADS
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Training
from wan_runtime.presets import PRESETS

OFFLOADS: tuple[Offload, ...] = get_args(Offload)
LEAST_STAGE: dict[Offload, Stage] = {"None": 0, "Optimizer": 2, "OptimizerAndParameters": 3}


def spread_of(
    spec: WanFineTuneSpec, largest: Training | None, gpu: Gpu | None, begun: Effective | None
) -> Parallelism:
    """The GPUs of the spec, and what it says of how they share the work; what it leaves open is as
    it was when the run began, else the first that surely fits, else the last.

    Args:
        largest: the run's largest bucket; None for a Tiny preset.
        begun: what was resolved before, if the run has begun.
    """
    choices = [*_choices(spec)]
    before = parallelism_of(begun) if begun is not None else None
    if before is not None and before in choices:
        return before
    if largest is None:
        return choices[0]
    if gpu is None:
        # The least memory, without what is slow.
        on_gpu = [each for each in choices if each.offload == choices[0].offload]
        return max(on_gpu, key=lambda each: each.zero_stage)
    works = {choice: replace(largest, spread=choice) for choice in choices}
    sure = (choice for choice in choices if plan_training(works[choice], gpu).verdict == "yes")
    return next(sure, choices[-1])


def parallelism_of(effective: Effective) -> Parallelism:
    """What is in use; one GPU alone for words of another release, so that it is chosen anew."""
    found = effective.parallelism
    if found is None:
        return Parallelism()
    try:
        return Parallelism.model_validate(found.model_dump())
    except ValidationError:
        return Parallelism()


def stated(spread: Parallelism) -> EffectiveParallelism | None:
    """As the status shows it; None for one GPU alone."""
    alone = spread == Parallelism()
    return None if alone else EffectiveParallelism(**spread.model_dump())


def _choices(spec: WanFineTuneSpec) -> Iterator[Parallelism]:
    """What the spec allows, that with the least exchange first. The API server has refused a spec
    that allows nothing."""
    given, heads, clips = spec.parallelism, _heads(spec), _clips(spec)
    gpus = given.gpus_per_node
    splits = [each for each in range(1, gpus + 1) if gpus % each == 0 and heads % each == 0]
    for offload, sequence, stage in product(
        OFFLOADS if given.offload is None else (given.offload,),
        splits if given.sequence is None else (given.sequence,),
        _stages(spec) if given.zero_stage is None else (given.zero_stage,),
    ):
        spread = Parallelism(
            nodes=given.nodes,
            gpus_per_node=gpus,
            sequence=sequence,
            zero_stage=stage,
            offload=offload,
        )
        if clips % spread.data == 0 and stage >= LEAST_STAGE[offload]:
            yield spread


def _heads(spec: WanFineTuneSpec) -> int:
    return TINY_HEADS if PRESETS[spec.model.preset].tiny else HEADS


def _clips(spec: WanFineTuneSpec) -> int:
    """Number of clips of an optimizer step."""
    return spec.training.batch_size * spec.training.gradient_accumulation


def _stages(spec: WanFineTuneSpec) -> Sequence[Stage]:
    """Stages that the planner may choose from: DeepSpeed is for what else does not fit."""
    several = spec.parallelism.gpus_per_node * spec.parallelism.nodes > 1
    return (0, 2, 3) if several and spec.method.full is not None else (0,)
