"""The update of the trained parameters: gradients, clipping, AdamW, learning rate.

The one seam between the training loop and what optimizes: the loop gives losses and reads what was
done, checkpoints read and write the live state by the parameters' names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wan_runtime.contract.training import TrainingSpec
from wan_runtime.models.dit.parallel import World
from wan_runtime.training import gradients, guard, rounding

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of one parameter, beside its step count."""


class Applied(NamedTuple):
    """What one optimizer step did."""

    norm: float
    """Norm of all gradients, before they were clipped."""
    learning_rate: float
    updates_lost: float
    """Share of parameter updates that rounding swallowed."""


class PlainUpdate:
    """torch's AdamW on parameters and gradients that are all in the device's memory."""

    labels = ("weights", *MOMENTS)
    """Kinds of tensor that a checkpoint holds of each parameter."""

    def __init__(
        self,
        trainable: dict[str, nn.Parameter],
        groups: Sequence[Mapping[str, Any]],
        learning_rate: float,
        spec: TrainingSpec,
        total: int,
        ranks: World,
        *,
        fused: bool,
    ) -> None:
        """
        Args:
            groups: parameter groups for the optimizer.
            learning_rate: before the schedule's factor.
            total: steps of the whole run.
            ranks: those that each hold all of `trainable`.
            fused: one kernel without temporaries the size of the model; it counts its steps on the
                GPU.
        """
        self.trainable, self._ranks, self._fused = trainable, ranks, fused
        self._max_norm = spec.max_gradient_norm
        self.optimizer = torch.optim.AdamW(
            [dict(group) for group in groups],
            lr=learning_rate,
            betas=(spec.optimizer.beta1, spec.optimizer.beta2),
            eps=spec.optimizer.epsilon,
            weight_decay=spec.optimizer.weight_decay,
            fused=fused,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_factor(step, total, spec)
        )

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

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """The live tensors that a checkpoint holds, by label and name of the parameter."""
        moments = {
            moment: {
                name: self.optimizer.state[parameter][moment]
                for name, parameter in self.trainable.items()
            }
            for moment in MOMENTS
        }
        return {"weights": self.trainable, **moments}

    def begin_moments(self) -> None:
        """Moments as AdamW makes them at its first step, to be overwritten."""
        for parameter in self.trainable.values():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(0.0, device=parameter.device if self._fused else "cpu"),
                **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
            }

    def restore_counts(self, step: int, scheduled: int) -> None:
        """Go on after optimizer step `step` and `scheduled` steps of the learning rate."""
        for parameter in self.trainable.values():
            self.optimizer.state[parameter]["step"].fill_(step)
        # LambdaLR derives the rate from its count alone; the optimizer's groups need it too.
        self.schedule.last_epoch = scheduled
        rates = [
            base * function(scheduled)
            for base, function in zip(self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    @property
    def scheduled(self) -> int:
        """Steps of the learning rate done."""
        return int(self.schedule.state_dict()["last_epoch"])


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
