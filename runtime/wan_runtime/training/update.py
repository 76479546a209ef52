"""The update of the trained parameters: gradients, clipping, AdamW, learning rate.

The one seam between the training loop and what optimizes: the loop gives losses and reads what was
done, checkpoints read and write the live state by the parameters' names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wan_runtime.contract.training import TrainingSpec
from wan_runtime.models.dit.parallel import World
from wan_runtime.training import gradients, guard, rounding

T = TypeVar("T")
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of one parameter, beside its step count."""


class Applied(NamedTuple):
    """What one optimizer step did."""

    norm: float
    """Norm of all gradients, before they were clipped."""
    learning_rate: float
    updates_lost: float
    """Share of parameter updates that rounding swallowed."""


class Update(Protocol):
    """What updates the trained parameters, on each of the ranks that train."""

    labels: tuple[str, ...]
    """Kinds of tensor that a checkpoint holds of each parameter."""
    shapes: dict[str, torch.Size]
    """Shapes of the parameters, by name."""
    config: dict[str, Any] | None
    """DeepSpeed's configuration, where it is at work."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part's share of the loss."""

    def reduce(self) -> None:
        """Call after the last `backward` of a step. Collective."""

    def check_gradients(self, step: int) -> None:
        """Raises NumericalError as `guard.check_gradients` does, of what `reduce` left."""

    def apply(self, step: int) -> Applied:
        """Clip and apply the gradients of optimizer step `step`, and forget them. Raises
        NumericalError(NON_FINITE_LOSS) before a parameter is changed."""

    def led(self, action: Callable[[], T]) -> T:
        """What rank 0 does, on all ranks: inside, it alone calls what follows. Collective."""

    def read(self, label: str, name: str) -> Tensor:
        """A tensor that a checkpoint holds, in float32."""

    def write(self, label: str, name: str, whole: Tensor) -> None:
        """Overwrite such a tensor."""

    def begin_moments(self) -> None:
        """Have moments to be overwritten."""

    def restore_counts(self, step: int, scheduled: int) -> None:
        """Go on after optimizer step `step` and `scheduled` steps of the learning rate."""

    def share(self, step: int, *, scheduled: int, resumed: bool) -> None:
        """Have all ranks hold what rank 0 holds. Collective."""

    @property
    def scheduled(self) -> int:
        """Steps of the learning rate done."""


class PlainUpdate:
    """torch's AdamW on parameters and gradients that are all in the device's memory."""

    labels: tuple[str, ...] = ("weights", *MOMENTS)
    config: dict[str, Any] | None = None

    def __init__(
        self,
        trainable: dict[str, nn.Parameter],
        optimizer: AdamW,
        schedule: LambdaLR,
        max_norm: float,
        ranks: World,
    ) -> None:
        """
        Args:
            max_norm: of all gradients, to which longer ones are scaled down.
            ranks: those that each hold all of `trainable`.
        """
        self.trainable, self.optimizer, self.schedule = trainable, optimizer, schedule
        self._max_norm, self._ranks = max_norm, ranks
        self.shapes = {name: each.shape for name, each in trainable.items()}

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part's share of the loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def reduce(self) -> None:
        """Call after the last `backward` of a step: the gradients become those of the whole step,
        on all ranks. Collective."""
        gradients.add_up(self.trainable.values(), self._ranks)

    def check_gradients(self, step: int) -> None:
        """Call after `reduce`. Raises NumericalError as
        `guard.check_gradients` does."""
        guard.check_gradients(self.trainable, step)

    def apply(self, step: int) -> Applied:
        """Clip and apply the gradients, and forget them.

        Args:
            step: number of this optimizer step, counted from 1.

        Raises:
            NumericalError: NON_FINITE_LOSS, before a parameter is changed.
        """
        parameters = self.trainable.values()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self._max_norm))
        guard.check_norm(norm, step)
        rate = self.optimizer.param_groups[0]["lr"]
        before = rounding.sample(parameters)
        self.optimizer.step()
        lost = rounding.lost_share(before, parameters, self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        return Applied(norm, rate, lost)

    def led(self, action: Callable[[], T]) -> T:
        """What rank 0 does, on all ranks. Collective.

        Raises:
            StepError: on all ranks, if it fails.
        """
        return self._ranks.decided(action)

    def read(self, label: str, name: str) -> Tensor:
        """A tensor that a checkpoint holds, in float32."""
        parameter = self.trainable[name]
        if label == "weights":
            return parameter.detach()
        moment: Tensor = self.optimizer.state[parameter][label]
        return moment

    def write(self, label: str, name: str, whole: Tensor) -> None:
        """Overwrite a tensor that a checkpoint holds."""
        self.read(label, name).copy_(whole)

    def begin_moments(self) -> None:
        """Moments as AdamW makes them at its first step, to be overwritten."""
        fused = self.optimizer.defaults["fused"]  # counts its steps where the parameters are
        for parameter in self.trainable.values():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(0.0, device=parameter.device if fused else "cpu"),
                **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
            }

    def restore_counts(self, step: int, scheduled: int) -> None:
        """Go on after optimizer step `step` and `scheduled` steps of the learning rate."""
        for parameter in self.trainable.values():
            self.optimizer.state[parameter]["step"].fill_(step)
        set_scheduled(self.schedule, scheduled)

    def share(self, step: int, *, scheduled: int, resumed: bool) -> None:
        """Have all ranks hold what rank 0 holds. Collective.

        Args:
            resumed: the optimizer has taken `step` steps, and the learning rate `scheduled`.
        """
        if self._ranks.world == 1:
            return
        if resumed and self._ranks.rank:
            self.begin_moments()
            self.restore_counts(step, scheduled)
        for label in self.labels if resumed else ("weights",):
            for name in self.shapes:
                dist.broadcast(self.read(label, name), src=0)

    @property
    def scheduled(self) -> int:
        """Steps of the learning rate done."""
        return int(self.schedule.state_dict()["last_epoch"])


def make_optimizer(
    groups: Sequence[Mapping[str, Any]],
    learning_rate: float,
    spec: TrainingSpec,
    total: int,
    *,
    fused: bool,
) -> tuple[AdamW, LambdaLR]:
    """AdamW of parameter groups, and the schedule of its rate.

    Args:
        learning_rate: before the schedule's factor.
        total: steps of the whole run.
        fused: one kernel without temporaries the size of the model.
    """
    optimizer = AdamW(
        [dict(group) for group in groups],
        lr=learning_rate,
        betas=(spec.optimizer.beta1, spec.optimizer.beta2),
        eps=spec.optimizer.epsilon,
        weight_decay=spec.optimizer.weight_decay,
        fused=fused,
    )
    return optimizer, LambdaLR(optimizer, lambda step: rate_factor(step, total, spec))


def set_scheduled(schedule: LambdaLR, count: int) -> None:
    """Put a schedule where it is after so many steps."""
    # LambdaLR derives the rate from its count alone; the optimizer's groups need it too.
    schedule.last_epoch = count
    rates = [
        base * function(count)
        for base, function in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def rate_factor(step: int, total: int, spec: TrainingSpec) -> float:
    """Factor on the learning rate for the step after `step` done: linear warm-up, then constant, or
    cosine to 0.
    """
    if step < spec.warmup_steps:
        return (step + 1) / spec.warmup_steps
    if spec.schedule == "Constant":
        return 1.0
    progress = (step - spec.warmup_steps) / max(1, total - spec.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
