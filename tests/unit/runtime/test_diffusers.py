"""A trained adapter in stock diffusers and stock diffsynth: both change the prediction alike."""

from __future__ import annotations

import pytest

from diffusers_peer import check_same_change
from ml_runs import Run
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.steps import SUFFIXES, Expert
from wan_runtime.models.layout import ModelFiles
from wan_runtime.training.export import ENDINGS

pytest_plugins = ["ml_fixtures"]


@pytest.mark.parametrize("dialect", [Dialect.DIFFUSERS, Dialect.COMFYUI])
@pytest.mark.parametrize(
    ("run_name", "model", "expert"),
    [
        ("exported21", "tiny21", Expert.ONLY),
        ("exported22", "tiny22", Expert.HIGH_NOISE),
        ("exported22", "tiny22", Expert.LOW_NOISE),
    ],
)
def test_adapter_changes_the_prediction_as_in_diffsynth(
    run_name: str, model: str, expert: Expert, dialect: Dialect, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(run_name)
    files: ModelFiles = request.getfixturevalue(model)
    folder, stem = run.fetch("export"), f"{run_name}{SUFFIXES[expert]}"
    ours, theirs = (folder / f"{stem}{ENDINGS[each]}" for each in (Dialect.DIFFSYNTH, dialect))
    check_same_change(files, expert, ours, theirs)
