"""Checks that training trains: finite losses, and a gradient for every trained layer.

A forward-only attention kernel, a wrapper that copies layers, a detached graph: each leaves some
parameters without a gradient, AdamW skips them, and nothing errors. The first two steps show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import NumericalError
from wan_runtime.models.dit.lora import layer_of

DIVERGENCE = 3.0
"""Times its lowest value that the mean probe loss may reach. Overfitting raises it by tenths; too
high a rate by orders of magnitude, and no later step brings the weights back."""
NAMED = 12
GUARDED_STEPS = 2


def check_loss(loss: float, step: int) -> None:
    """Raises NumericalError(NON_FINITE_LOSS) for NaN and infinities."""
    if not math.isfinite(loss):
        raise NumericalError(
            Reason.NON_FINITE_LOSS,
            f"the loss is {loss} at step {step}: lower the learning rate, or look at the clips",
        )


def check_norm(norm: float, step: int) -> None:
    """Call with the norm of all gradients before they are applied: once a weight is NaN, it is too
    late, and after the last step nothing would notice. Raises NumericalError(NON_FINITE_LOSS).
    """
    if not math.isfinite(norm):
        raise NumericalError(
            Reason.NON_FINITE_LOSS, f"the gradients are not finite at step {step}: norm {norm}"
        )


def check_divergence(probes: Sequence[Mapping[str, Any]]) -> None:
    """Call after each evaluation of the probes.

    Raises NumericalError: NON_FINITE_LOSS before the first step, DIVERGED after it.
    """
    means = [entry["losses"]["mean"] for entry in probes]
    lowest, last = min(means), means[-1]
    if not math.isfinite(means[0]):
        raise NumericalError(
            Reason.NON_FINITE_LOSS,
            f"the loss of the held-out probes is {means[0]} before the first step: "
            "the weights that training starts from overflow",
        )
    # "not <=" also catches NaN.
    if not last <= DIVERGENCE * lowest:
        raise NumericalError(
            Reason.DIVERGED,
            f"the loss of the held-out probes is {last:.4g} at step {probes[-1]['step']}, "
            f"{last / lowest:.1f} times its lowest ({lowest:.4g} at step "
            f"{probes[means.index(lowest)]['step']}): lower the learning rate",
        )


def check_gradients(
    trainable: Mapping[str, nn.Parameter],
    step: int,
    *,
    gradient: Callable[[nn.Parameter], Tensor | None] = lambda parameter: parameter.grad,
    whole: Callable[[str], Tensor] | None = None,
) -> None:
    """Call after backward of steps 1 and 2, before clipping.

    An adapter's B starts at zero, so at step 1 the gradient of A is zero by nature and only B is
    looked at; at step 2, when B has moved, both.

    Args:
        gradient: that of a parameter, whole; None without one.
        whole: the values of a parameter by name, where ranks have only pieces of it.

    Raises:
        NumericalError: DEAD_GRADIENTS with the layers that got none; NON_FINITE_LOSS if one is not
            finite.
    """
    dead: list[str] = []
    for name, parameter in trainable.items():
        if ".lora_A." in name:
            other = name.replace("_A.", "_B.")
            if not bool((whole(other) if whole else trainable[other]).any()):
                continue
        found = gradient(parameter)
        if found is not None and not bool(torch.isfinite(found).all()):
            raise NumericalError(
                Reason.NON_FINITE_LOSS, f"the gradient of {name} is not finite at step {step}"
            )
        if found is None or not bool((found != 0).any()):
            dead.append(layer_of(name))
    if dead:
        layers = list(dict.fromkeys(dead))
        trained = len({layer_of(name) for name in trainable})
        more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
        raise NumericalError(
            Reason.DEAD_GRADIENTS,
            f"after step {step}, {len(layers)} of {trained} trained layers have no gradient: "
            f"{', '.join(layers[:NAMED])}{more}. An attention kernel without backward does this",
        )
