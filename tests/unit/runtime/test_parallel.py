"""Ranks that work together; several of them at once are in the worker's tests."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from diffusers_peer import SIGMA, random_inputs
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError, StepError, rebuilt
from wan_runtime.models.dit.parallel import Group, TokenSplit, alone, join
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]


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


def test_no_gradient_is_lost_where_tokens_are_split(tiny21: ModelFiles) -> None:
    transformer = Transformer.load(tiny21, Expert.ONLY, torch.device("cpu"), torch.float32)
    noisy, conditions = random_inputs(clip=True)
    split = transformer.begin(conditions, tokens=TokenSplit(Group((0, 1), 0)))
    with pytest.raises(NotImplementedError, match="no gradient goes through tokens"):
        split.velocity(noisy, SIGMA)
