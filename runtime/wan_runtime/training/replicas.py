"""Ranks that each hold all of what is trained, in equal states."""

from __future__ import annotations

import torch
import torch.distributed as dist

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.models.dit.parallel import World
from wan_runtime.training.checkpoint import TrainState


def check_equal(state: TrainState, ranks: World) -> None:
    """Compare the trained weights of all ranks. Equal gradients move them alike, to the bit, so a
    difference is a GPU or a link that computes wrongly. Collective.

    Raises:
        InfrastructureError: UNEXPECTED, on all ranks.
    """
    if ranks.world == 1:
        return
    sums = torch.zeros(ranks.world, dtype=torch.int64)
    sums[ranks.rank] = sum(
        int(each.detach().view(torch.int32).sum(dtype=torch.int64))
        for each in state.trainable.values()
    ) % (1 << 62)
    found = ranks.add(sums).tolist()
    other = next((rank for rank, each in enumerate(found) if each != found[0]), None)
    if other is not None:
        raise InfrastructureError(
            Reason.UNEXPECTED,
            f"after step {state.step}, rank {other} holds other weights than rank 0: a GPU, or what"
            " links the GPUs, computes wrongly",
        )


def share(state: TrainState, ranks: World, *, resumed: bool) -> None:
    """Have all ranks hold what rank 0 holds. Collective.

    Args:
        resumed: the optimizer has taken steps.
    """
    counts = state.step, state.position, state.update.scheduled, state.history
    state.step, state.position, scheduled, state.history = ranks.broadcast(counts)
    state.generator.set_state(ranks.broadcast(state.generator.get_state()))
    state.update.share(state.step, scheduled=scheduled, resumed=resumed)
    if ranks.world > 1 and state.average is not None:
        for tensor in state.average.tensors.values():
            dist.broadcast(tensor, src=0)
