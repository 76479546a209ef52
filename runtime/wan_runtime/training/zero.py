"""The update of parameters whose optimizer state, gradients or values are divided over ranks:
DeepSpeed's ZeRO 2 and 3 (Rajbhandari et al. 2020).

DeepSpeed is imported here alone, and only where a run needs it. What a checkpoint holds is read and
written whole, by the parameters' names: a run goes on from it on any number of ranks, with or
without DeepSpeed.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wan_runtime.contract.training import TrainingSpec
from wan_runtime.models.dit.parallel import World
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.training import guard, rounding
from wan_runtime.training.orders import Order, Orders
from wan_runtime.training.update import MOMENTS, Applied, set_scheduled
from wan_runtime.training.zero_config import zero_config

T = TypeVar("T")


class DeepSpeedUpdate:
    """torch's AdamW under DeepSpeed's ZeRO, one of the ranks'."""

    labels: tuple[str, ...] = ("weights", *MOMENTS)

    def __init__(
        self,
        transformer: Transformer,
        trainable: dict[str, nn.Parameter],
        optimizer: AdamW,
        schedule: LambdaLR,
        spec: TrainingSpec,
        ranks: World,
    ) -> None:
        """
        Args:
            ranks: those that the state is divided over.
        """
        self._trainable, self._transformer, self._ranks = trainable, transformer, ranks
        self.optimizer, self.schedule = optimizer, schedule
        self.shapes = {name: each.shape for name, each in trainable.items()}
        self.config: dict[str, Any] | None = zero_config(spec)
        self._stage = spec.parallelism.zero_stage
        self._offloads = spec.parallelism.offload != "None"
        self._engine: Any = None
        self._taken = False
        """Whether a part of the step has been taken."""
        self._orders = Orders(self._obey)
        self._written = False

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part's share of the loss. Collective."""
        if self._taken:
            self._engine.step()  # counts the part before
        self._taken = True
        # DeepSpeed takes the mean over ranks, of losses that are each a share of the whole.
        self._engine.backward(loss * self._ranks.world, scale_wrt_gas=False)

    def reduce(self) -> None:
        """Nothing: DeepSpeed reduces each gradient when it is there."""

    def check_gradients(self, step: int) -> None:
        """Call after the last `backward`. Raises NumericalError as `guard.check_gradients` does, on
        all ranks. Collective."""
        from deepspeed.utils import safe_get_full_grad

        guard.check_gradients(
            self._trainable,
            step,
            gradient=safe_get_full_grad,
            whole=lambda name: self._read("weights", name),
        )

    def apply(self, step: int) -> Applied:
        """Clip and apply the gradients, and forget them. Collective.

        Args:
            step: number of this optimizer step, counted from 1.

        Raises:
            NumericalError: NON_FINITE_LOSS, before a parameter is changed.
        """
        rate = self.optimizer.param_groups[0]["lr"]
        before = rounding.sample(self._pieces)
        self._engine.step()
        self._taken = False
        applied = self._engine.was_step_applied()  # it is not, of gradients that are not finite
        norm = float(self._engine.get_global_grad_norm()) if applied else float("nan")
        guard.check_norm(norm, step)
        lost = rounding.lost_share(before, self._pieces, self.optimizer)
        total = self._ranks.add(torch.tensor(lost, dtype=torch.float64))
        self.schedule.step()
        return Applied(norm, rate, float(total) / self._ranks.world)

    def led(self, action: Callable[[], T]) -> T:
        """What rank 0 does, on all ranks: inside, it alone reads and writes tensors, and the others
        do their parts. Collective.

        Raises:
            StepError: on all ranks, if it fails.
        """
        if self._ranks.rank:
            self._orders.follow()
        result = self._ranks.decided(lambda: self._orders.ending(action))
        if self._ranks.broadcast(self._written):
            self._refresh()
        self._written = False
        return result

    def read(self, label: str, name: str) -> Tensor:
        """A tensor that a checkpoint holds, whole, in float32."""
        found: Tensor = self._orders.give(Order.READ, self.labels.index(label), self._number(name))
        return found

    def write(self, label: str, name: str, whole: Tensor) -> None:
        """Overwrite a tensor that a checkpoint holds."""
        self._written = True
        self._orders.give(Order.WRITE, self.labels.index(label), self._number(name), whole)

    def begin_moments(self) -> None:
        """Divide the parameters, unless they are, with moments that are to be overwritten."""
        self._orders.give(Order.BEGIN)

    def restore_counts(self, step: int, scheduled: int) -> None:
        """Go on after optimizer step `step` and `scheduled` steps of the learning rate."""
        self._orders.give(Order.COUNT, step, scheduled)

    def share(self, step: int, *, scheduled: int, resumed: bool) -> None:
        """Begin, unless the ranks hold what a checkpoint held. Collective."""
        if not resumed:
            self._begin()

    @property
    def scheduled(self) -> int:
        """Steps of the learning rate done."""
        return int(self.schedule.state_dict()["last_epoch"])

    def _obey(self, order: Order, first: int, second: int, given: Tensor | None) -> Any:
        """Do a rank's part of what rank 0 orders."""
        if order is Order.BEGIN:
            return self._begin()
        if order is Order.COUNT:
            return self._count(first, second)
        label, name = self.labels[first], list(self._trainable)[second]
        if order is Order.READ:
            return self._read(label, name)
        whole = torch.empty(self.shapes[name], device=self._transformer.device)
        if given is not None:
            whole.copy_(given)
        if self._ranks.world > 1:
            dist.broadcast(whole, src=0)
        return self._write(label, name, whole)

    def _number(self, name: str) -> int:
        return list(self._trainable).index(name)

    def _begin(self) -> None:
        """Divide the parameters of rank 0, as they are now."""
        if self._engine is not None:
            return
        deepspeed = _deepspeed(self._transformer.device)
        three = self._stage == 3
        self._engine, *_ = deepspeed.initialize(
            model=self._transformer.parts() if three else self._transformer.whole(),
            optimizer=self.optimizer,
            config=self.config,
            dist_init_required=False,
        )
        self._transformer.run_in(self._engine, gathers=three)
        if three:
            self._share_memory()
        for piece in self._pieces:
            self.optimizer.state[piece] = {
                "step": torch.zeros((), device=piece.device),
                **{moment: torch.zeros_like(piece) for moment in MOMENTS},
            }
        if not three:
            # After the first step DeepSpeed 0.19.8 does so for the first group alone.
            self._divided._lazy_init_hp_params_optimizer_state()

    def _share_memory(self) -> None:
        """Have one copy of what DeepSpeed 0.19.8 keeps twice: float32 weights where they are and
        where AdamW updates them; with offload, gradients where they are gathered and where AdamW
        reads them, in the same order."""
        divided, begin = self._divided, 0
        for piece, flat in zip(self._pieces, divided.fp16_partitioned_groups_flat, strict=True):
            if piece.device == flat.device:
                piece.data = flat.data
            if self._offloads:
                buffer = divided.grad_partitions_flat_buffer
                piece.grad = buffer.narrow(0, begin, piece.numel())
                begin += piece.numel()

    def _read(self, label: str, name: str) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        parameter = self._trainable[name]
        found: Tensor = (
            safe_get_full_fp32_param(parameter)
            if label == "weights"
            else safe_get_full_optimizer_state(parameter, label)
        )
        return found.detach()

    def _write(self, label: str, name: str, whole: Tensor) -> None:
        """Keep this rank's piece of a tensor."""
        from deepspeed import utils

        parameter: Any = self._trainable[name]
        key = [] if label == "weights" else [label]
        if self._stage == 2:
            put = utils.safe_set_full_optimizer_state if key else utils.safe_set_full_fp32_param
            put(parameter, whole, *key)
            return
        length, world = parameter.partition_numel(), self._ranks.world
        padded = F.pad(whole.flatten(), (0, length * world - whole.numel()))
        put = utils.safe_set_local_optimizer_state if key else utils.safe_set_local_fp32_param
        put(parameter, padded.narrow(0, length * self._ranks.rank, length), *key)

    def _count(self, step: int, scheduled: int) -> None:
        for piece in self._pieces:
            self.optimizer.state[piece]["step"].fill_(step)
        set_scheduled(self.schedule, scheduled)

    def _refresh(self) -> None:
        """Have the forward pass see what was written to the pieces. Collective."""
        divided = self._divided
        if self._stage == 2:
            divided.update_lp_params()
            return
        for number in range(len(divided.fp16_groups)):
            divided._reassign_or_swap_out_partitioned_parameters(number)

    @property
    def _divided(self) -> Any:
        return self._engine.optimizer

    @property
    def _pieces(self) -> list[Tensor]:
        """This rank's pieces of the trained parameters, flat, which are what AdamW updates."""
        found: list[Tensor] = (
            self._divided.fp32_partitioned_groups_flat
            if self._stage == 3
            else self._divided.single_partition_of_fp32_groups
        )
        return found


def _deepspeed(device: torch.device) -> Any:
    """DeepSpeed, for ranks that have met."""
    if not dist.is_initialized():
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(store=store, rank=0, world_size=1)
    # What it reads of the environment, where ranks did not meet by that.
    local = torch.cuda.current_device() if device.type == "cuda" else dist.get_rank()
    place = {"RANK": dist.get_rank(), "WORLD_SIZE": dist.get_world_size(), "LOCAL_RANK": local}
    for name, value in place.items():
        os.environ.setdefault(name, str(value))
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    if sys.modules.get("deepspeed") is None:
        sys.modules.pop("deepspeed", None)  # of wan_runtime.models, which hides it
    deepspeed = importlib.import_module("deepspeed")

    # An all-reduce for inference on CPUs, which it would compile here and now.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    return deepspeed
