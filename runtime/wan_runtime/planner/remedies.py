"""The smallest changes with which a run or a service would fit: each alone, or what belongs
together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any, get_args

from wan_runtime.contract.training import KEEPING, Offload, Parallelism
from wan_runtime.planner.architecture import HEADS
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.host import gib_to_train
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Serving, Training

FEWEST_FRAMES = 5
OFFLOADS: tuple[Offload, ...] = get_args(Offload)
MOST_ON_A_NODE = 8
"""GPUs of a node that may train together."""
SMALLER = (832, 480)
"""Wan's other official size."""

Settle = Callable[[Sequence[Training], Gpu], Sequence[Training]]
"""The buckets of a run, the largest first, with what is chosen by itself for them on a GPU."""


def as_they_are(works: Sequence[Training], gpu: Gpu) -> Sequence[Training]:
    """Where nothing is chosen."""
    return works


def fits(works: Iterable[Training], gpu: Gpu) -> bool:
    return all(plan_training(work, gpu).fits for work in works)


def remedies(
    work: Training,
    gpu: Gpu,
    catalogue: Sequence[Gpu],
    smaller: Sequence[Training] = (),
    settle: Settle = as_they_are,
    has_room: Callable[[Training], bool] = lambda work: True,
) -> list[str]:
    """As `57 frames`, least intrusive first; empty if nothing alone helps. All weights of a large
    model fit no single GPU: for them several settings of `parallelism` are one change, and where
    that takes host memory, so are a type and a number of GPUs that need none. `smaller`: the run's
    buckets beside that of `work`, its largest. `settle`: a run that is changed, or on another GPU,
    may be given another checkpointing. `has_room`: whether pods may have the host memory of one
    whose checkpointing or offload is said."""
    works, found = (work, *smaller), []

    def fit(works: Sequence[Training], gpu: Gpu = gpu) -> bool:
        return fits(settle(works, gpu), gpu)

    def fit_with(**change: Any) -> bool:
        changed = [replace(each, **change) for each in works]
        if "checkpointing" in change:
            return has_room(changed[0]) and fits(changed, gpu)
        return fit(changed)

    if work.checkpointing == "None" and fit_with(checkpointing="Full"):
        found.append("gradientCheckpointing: Full")
    if work.method == "lora":
        kept = (each for each in KEEPING if fit_with(checkpointing=each))
        found += [f"gradientCheckpointing: {each}" for each in list(kept)[:1]]
    if work.method == "lora" and work.precision == "BF16" and fit_with(precision="FP8"):
        found.append("basePrecision: FP8")
    if work.experts > 1 and fit_with(experts=1):
        found.append("parallelism.experts: Sequential")
    if work.batch > 1:
        batch = next((b for b in range(work.batch - 1, 0, -1) if fit_with(batch=b)), None)
        if batch is not None:
            found.append(f"batchSize: {batch}")
    if work.method == "full" and work.spread.world > 1:
        stages = (each for each in (2, 3) if each > work.spread.zero_stage)
        spreads = (work.spread.model_copy(update={"zero_stage": each}) for each in stages)
        divided = next((each for each in spreads if fit_with(spread=each)), None)
        if divided is not None:
            found.append(f"parallelism.zeroStage: {divided.zero_stage}")
    split = next((each for each in wider(work) if fit_with(spread=each)), None)
    if split is not None:
        found.append(f"parallelism.gpusPerNode: {split.gpus_per_node}")
    elif work.method == "full":
        moved = (replace(work, spread=each) for each in offloading(work))
        fitting = (each for each in moved if has_room(each) and fit_with(spread=each.spread))
        found += [_in_host_memory(each, work) for each in islice(fitting, 1)]
    frames = most_frames(works, fit)
    if frames is not None:
        found.append(f"at most {frames} frames" if smaller else f"{frames} frames")
    width, height = SMALLER if work.width >= work.height else SMALLER[::-1]
    if not smaller and fit_with(width=width, height=height):
        found.append(f"{width}x{height}")
    excess = [each for each in works if not fit([each])]
    if 0 < len(excess) < len(works):
        names = ", ".join(f"{each.width}x{each.height}x{each.frames}" for each in excess)
        found.append(f"buckets without {names}")
    larger = [other for other in catalogue if other.name != gpu.name and fit(works, other)]
    if larger:
        found.append(f"a GPU of type {by_memory(larger)[0].name}")
    elif work.method == "full" and split is None:
        several = (
            f"parallelism.gpusPerNode: {spread.gpus_per_node} on GPUs of type {other.name}"
            for other, spread in product(by_memory(catalogue), wider(work))
            if fit([replace(each, spread=spread) for each in works], other)
        )
        found += islice(several, 1)
    if work.method == "full" and fit_with(method="lora"):
        found.append("method.lora")
    return found


def wider(work: Training) -> Iterator[Parallelism]:
    """More GPUs of a node that split each clip, for as many clips in a step, and all weights that
    train."""
    now = work.spread
    zero = 3 if work.method == "full" else now.zero_stage
    for sequence in range(now.sequence + 1, MOST_ON_A_NODE + 1):
        gpus = now.gpus_per_node // now.sequence * sequence
        if HEADS % sequence == 0 and gpus <= MOST_ON_A_NODE:
            more = {"gpus_per_node": gpus, "sequence": sequence, "zero_stage": zero}
            yield now.model_copy(update=more)


def offloading(work: Training) -> Iterator[Parallelism]:
    """The fewest GPUs of a node of which ZeRO 3 keeps more in host memory, the least of it first:
    each GPU more takes more of it, too, while weights are loaded."""
    more = OFFLOADS[OFFLOADS.index(work.spread.offload) + 1 :]
    for spread, offload in product((work.spread, *wider(work)), more):
        yield spread.model_copy(update={"zero_stage": 3, "offload": offload})


def _in_host_memory(work: Training, before: Training) -> str:
    """What of `parallelism` is set for it."""
    spread, was, parts = work.spread, before.spread, []
    if spread.gpus_per_node != was.gpus_per_node:
        parts.append(f"gpusPerNode: {spread.gpus_per_node}")
    parts += [f"zeroStage: {spread.zero_stage}", f"offload: {spread.offload}"]
    host, settings = gib_to_train(work), ", ".join(parts)
    return f"parallelism: {{{settings}}} with {host:.0f} GiB of host memory in each node"


def by_memory(gpus: Iterable[Gpu]) -> list[Gpu]:
    """Smallest first."""
    return sorted(gpus, key=lambda gpu: (gpu.memory_gib, gpu.name))


def most_frames(works: Sequence[Training], fit: Callable[[Sequence[Training]], bool]) -> int | None:
    """To which all are to be shortened, fewer than the longest has; None if that does not help."""
    longest = max(work.frames for work in works)
    for frames in range(longest - 4, FEWEST_FRAMES - 1, -4):
        if fit([replace(work, frames=min(work.frames, frames)) for work in works]):
            return frames
    return None


def serving_remedies(work: Serving, gpu: Gpu, catalogue: Sequence[Gpu]) -> list[str]:
    """For a video, likewise. More GPUs are not named: two share no memory of a guided video."""
    found = []

    def fit_with(on: Gpu = gpu, **change: Any) -> bool:
        return plan_serving(replace(work, **change), on).fits

    if work.profile == "Exact" and fit_with(profile="Lossless"):
        found.append("acceleration.profile: Lossless")
    shorter = range(work.frames - 4, FEWEST_FRAMES - 1, -4)
    frames = next((each for each in shorter if fit_with(frames=each)), None)
    if frames is not None:
        found.append(f"{frames} frames")
    width, height = SMALLER if work.width >= work.height else SMALLER[::-1]
    if fit_with(width=width, height=height):
        found.append(f"{width}x{height}")
    larger = [other for other in catalogue if other.name != gpu.name and fit_with(other)]
    if larger:
        found.append(f"a GPU of type {by_memory(larger)[0].name}")
    return found
