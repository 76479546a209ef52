"""A trained adapter in stock diffusers and stock diffsynth: both change the prediction alike."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanImageToVideoPipeline

from diffusers_peer import predict, random_inputs, stock_transformer
from ml_runs import Run
from wan_runtime.job import Dialect, Expert
from wan_runtime.models import load
from wan_runtime.models.layout import ModelFiles
from wan_runtime.training.export import ENDINGS, SUFFIXES
from wan_runtime.training.forward import predict_velocity

pytest_plugins = ["ml_fixtures"]

SIGMA = torch.tensor([0.93])
NAMES = {Expert.ONLY: "transformer", Expert.HIGH_NOISE: "transformer"} | {
    Expert.LOW_NOISE: "transformer_2"
}


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
    noisy, conditions = random_inputs(clip=files.preset.uses_clip)

    def ours() -> torch.Tensor:
        with torch.no_grad():
            return predict_velocity(dit, noisy, SIGMA, conditions, dtype=torch.float32)

    def theirs() -> torch.Tensor:
        return predict(models[NAMES[expert]], noisy, SIGMA, conditions)

    diffsynth = load.load_pipeline(files, torch.float32, torch.device("cpu"))
    dit = diffsynth.dit2 if expert is Expert.LOW_NOISE else diffsynth.dit
    models = {NAMES[each]: stock_transformer(files, each) for each in files.preset.experts}
    diffusers = WanImageToVideoPipeline(None, None, None, None, **models)
    before = ours(), theirs()
    diffsynth.load_lora(dit, str(folder / f"{stem}{ENDINGS[Dialect.DIFFSYNTH]}"))
    second = {"load_into_transformer_2": True} if expert is Expert.LOW_NOISE else {}
    diffusers.load_lora_weights(str(folder), weight_name=f"{stem}{ENDINGS[dialect]}", **second)
    after = ours(), theirs()

    assert torch.allclose(*before, atol=1e-4)
    change = after[0] - before[0]
    assert float(change.norm() / before[0].norm()) > 1e-4
    assert float((after[1] - before[1] - change).norm() / change.norm()) < 1e-2
