"""Ranks that train together."""

from __future__ import annotations

import torch

from wan_runtime.contract.finetune import FineTuneWork
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.training import Parallelism
from wan_runtime.errors import InputError
from wan_runtime.models.dit.parallel import Mesh, join_mesh, lone_mesh
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.process import launch


def meet(parallelism: Parallelism) -> Mesh:
    """Meet the other ranks by the environment of each; this one computes on the GPU of its number
    on the node. Collective."""
    place = launch.place()
    if place.world == 1:
        return lone_mesh()
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
