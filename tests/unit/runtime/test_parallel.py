"""Ranks that work together; several of them at once are in the worker's tests."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusers_peer import random_inputs
from forked_ranks import on_ranks
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError, StepError, rebuilt
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.parallel import Ranks, alone, join
from wan_runtime.models.dit.tokens import TokenSplit
from wan_runtime.models.dit.transformer import Choice
from wan_runtime.rendering import sampling
from wan_runtime.rendering.sampling import Prompted, Step, denoise


@pytest.mark.parametrize(
    ("error", "exit_class", "reason"),
    [
        (InputError(Reason.CLIP_INVALID, "torn"), ExitClass.INPUT, Reason.CLIP_INVALID),
        (OSError(errno.ENOMEM, "full"), ExitClass.OUT_OF_MEMORY, Reason.HOST_OUT_OF_MEMORY),
        (ZeroDivisionError("a bug"), ExitClass.INFRASTRUCTURE, Reason.UNEXPECTED),
    ],
)
def test_what_fails_on_one_rank_is_a_step_error_on_all(
    error: Exception, exit_class: ExitClass, reason: Reason
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(StepError) as caught:
        alone().together(fail)
    assert (caught.value.exit_class, caught.value.reason) == (exit_class, reason)
    assert alone().together(lambda: 3) == 3


@pytest.mark.parametrize("exit_class", set(ExitClass) - {ExitClass.DONE})
def test_an_error_keeps_its_class_on_the_way_to_other_ranks(exit_class: ExitClass) -> None:
    error = rebuilt(exit_class, Reason.UNEXPECTED, "of rank 1")
    assert (error.exit_class, error.message) == (exit_class, "of rank 1")


def test_an_odd_number_of_ranks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 ranks have no halves: take 1, or an even number"):
        join(0, 3, tmp_path / "meet")


class Timed:
    """A transformer that finds another kernel fastest on each rank; of rank 0, or fails."""

    def __init__(self, rank: int, *, fails: bool = False) -> None:
        self._rank, self._fails = rank, fails

    def choose(self, conditions: Conditions, **_: object) -> Choice:
        if self._fails:
            raise torch.OutOfMemoryError("no room for a trial")
        assert self._rank == 0, "one rank's answer is enough"
        return Choice("of rank 0", "SDPA", float8=True)

    def begin(self, conditions: Conditions, *, choice: Choice, tokens: TokenSplit) -> Choice:
        return choice


@pytest.mark.parametrize("fails", [False, True])
def test_one_rank_chooses_the_kernels_of_all(tmp_path: Path, fails: bool) -> None:
    _, conditions = random_inputs(clip=True)
    prompted = Prompted(conditions, conditions)

    def begin(ranks: Ranks) -> object:
        transformer: Any = Timed(ranks.rank, fails=fails)
        return sampling._begin(transformer, prompted, True, ranks, "Fast")

    found = on_ranks(2, tmp_path, begin)
    if fails:
        assert all("no room for a trial" in each for each in found), found
    else:
        assert found == [[Choice("of rank 0", "SDPA", float8=True)]] * 2


class Noted:
    """A transformer that notes the noise levels that it computes."""

    def __init__(self) -> None:
        self.levels: list[float] = []

    def choose(self, conditions: Conditions, **_: object) -> Choice:
        return Choice("SDPA", "SDPA", float8=False)

    def begin(self, conditions: Conditions, **_: object) -> Noted:
        return self

    def modulation(self, sigma: float) -> torch.Tensor:
        return torch.ones(1)

    def velocity(self, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        self.levels.append(float(sigmas[0]))
        return torch.zeros_like(x)


class Every:
    """A step cache that leaves out each step whose number its rank divides."""

    def __init__(self, rank: int) -> None:
        self._divisor = rank + 2

    def begin(self, *_: object) -> Every:
        return self

    def allows(self, number: int, x: torch.Tensor, sigma: float) -> bool:
        return number % self._divisor == 1

    def reuse(self, x: torch.Tensor, sigma: float) -> list[torch.Tensor]:
        return [torch.ones_like(x)]

    def learn(self, *_: object) -> None:
        pass


def test_one_rank_decides_which_steps_are_left_out(tmp_path: Path) -> None:
    noisy, conditions = random_inputs(clip=True)
    steps = [Step(1 - number / 8, Expert.ONLY, 1.0) for number in range(8)]

    def video(ranks: Ranks) -> tuple[list[float], torch.Tensor]:
        transformer: Any = Noted()
        caching: Any = Every(ranks.rank)
        prompted = Prompted(conditions, None)
        made = denoise(lambda _: transformer, steps, noisy, prompted, ranks, caching=caching)
        return transformer.levels, made

    (one, first), (two, second) = on_ranks(2, tmp_path, video)
    assert one == two == [1.0, 0.75, 0.5, 0.25], "as rank 0 has it"
    assert torch.equal(first, second)
