"""Ranks that train together."""

from __future__ import annotations

import torch

from wan_runtime.contract.finetune import FineTuneWork
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.training import KEEPING, Parallelism, TrainingSpec
from wan_runtime.errors import InputError
from wan_runtime.models.dit.parallel import Mesh, join_mesh, lone_mesh
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.process import launch
from wan_runtime.threads import cores


def meet(parallelism: Parallelism) -> Mesh:
    """Meet the other ranks by the environment of each; this one computes on the GPU of its number
    on the node, and on its share of the processors. Collective."""
    place = launch.place()
    if place.world == 1:
        return lone_mesh()
    # Each would take all of them for an optimizer in host memory.
    torch.set_num_threads(max(1, len(cores()) // place.local_world))
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local)
    return join_mesh(place.rank, place.world, place.local, parallelism.sequence, "env://")


def check(work: FineTuneWork, transformer: Transformer) -> None:
    """Raises InputError(JOB_INVALID) for what more than one rank cannot do."""
    ranks, lora = work.training.parallelism, work.lora
    try:
        transformer.check_heads(ranks.sequence)
    except ValueError as error:
        text = f"training.parallelism.sequence: {error}"
        raise InputError(Reason.JOB_INVALID, text) from error
    if ranks.world > 1 and lora is not None and lora.dropout:
        text = (
            f"lora.dropout is {lora.dropout}, but what {ranks.world} GPUs drop would depend on "
            "their number: train without it, or on one GPU"
        )
        raise InputError(Reason.JOB_INVALID, text)
    if ranks.zero_stage:
        _check_zero(work.training)


def _check_zero(spec: TrainingSpec) -> None:
    """Raises InputError(JOB_INVALID) for what needs all of what ZeRO divides."""
    for field, value, needed in (
        ("emaDecay", spec.ema_decay, None),
        ("basePrecision", spec.base_precision, "BF16"),
    ):
        if value != needed:
            text = f"training.{field} is {value}: with ZeRO leave it out, or take zeroStage 0"
            raise InputError(Reason.JOB_INVALID, text)
    kept = spec.gradient_checkpointing
    if spec.parallelism.zero_stage == 3 and kept in KEEPING:
        text = (
            f"training.gradientCheckpointing is {kept}: ZeRO 3 gathers a block's weights anew for "
            "its gradient, as Full does: take Full, or zeroStage 2"
        )
        raise InputError(Reason.JOB_INVALID, text)
