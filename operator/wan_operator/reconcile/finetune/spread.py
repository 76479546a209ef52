"""What `spec.parallelism` leaves open, chosen by the planner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from wan_operator.api.v1alpha1.finetune import Effective, EffectiveParallelism, WanFineTuneSpec
from wan_runtime.contract.training import Parallelism
from wan_runtime.planner.architecture import HEADS, TINY_HEADS
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Training
from wan_runtime.presets import PRESETS


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
    if largest is None or gpu is None:
        return choices[0]
    works = {choice: replace(largest, spread=choice) for choice in choices}
    sure = (choice for choice in choices if plan_training(works[choice], gpu).verdict == "yes")
    return next(sure, choices[-1])


def parallelism_of(effective: Effective) -> Parallelism:
    """What is in use."""
    found = effective.parallelism
    return Parallelism() if found is None else Parallelism(**found.model_dump())


def stated(spread: Parallelism) -> EffectiveParallelism | None:
    """As the status shows it; None for one GPU alone."""
    alone = spread == Parallelism()
    return None if alone else EffectiveParallelism(**spread.model_dump())


def _choices(spec: WanFineTuneSpec) -> Iterator[Parallelism]:
    """What the spec allows, that with the least exchange first. The API server has refused a spec
    that allows nothing."""
    given, training = spec.parallelism, spec.training
    heads = TINY_HEADS if PRESETS[spec.model.preset].tiny else HEADS
    clips = training.batch_size * training.gradient_accumulation
    splits: Sequence[int] = range(1, given.gpus_per_node + 1)
    for sequence in splits if given.sequence is None else (given.sequence,):
        if heads % sequence or given.gpus_per_node % sequence:
            continue
        spread = Parallelism(
            nodes=given.nodes, gpus_per_node=given.gpus_per_node, sequence=sequence
        )
        if clips % spread.data == 0:
            yield spread
