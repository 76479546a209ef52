"""Noise levels, target and the transformer's pass, against diffsynth's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffsynth.diffusion import FlowMatchScheduler
from diffsynth.pipelines.wan_video import model_fn_wan_video

from passes import velocity_of
from wan_runtime.contract.steps import Expert
from wan_runtime.models import load
from wan_runtime.models.dit.forward import Conditions, keep_time_embedding_fp32
from wan_runtime.models.flow import NoiseLevels, add_noise, bell, shifted_grid, velocity
from wan_runtime.models.layout import ModelFiles
from wan_runtime.planner.steps import total_steps
from wan_runtime.presets import PRESETS
from wan_runtime.training.sampler import Sampler

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
PAIR = PRESETS["Wan2.2-I2V-A14B"]


def scheduler(shift: float) -> Any:
    stock = FlowMatchScheduler("Wan")
    stock.set_timesteps(1000, shift=shift, training=True)
    return stock


@pytest.mark.parametrize("shift", [3.0, 5.0])
def test_grid_and_bell_are_diffsynths(shift: float) -> None:
    stock = scheduler(shift)
    sigmas = shifted_grid(shift)
    assert torch.equal(sigmas, stock.sigmas)
    weights = stock.linear_timesteps_weights
    assert torch.allclose(bell(sigmas), weights / weights.mean(), atol=1e-5)


def test_noising_and_target_are_diffsynths() -> None:
    stock = scheduler(5.0)
    clean, noise = torch.randn(2, 1, 16, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    index = 700
    ours = add_noise(clean, noise, stock.sigmas[index : index + 1])
    assert torch.allclose(ours, stock.add_noise(clean, noise, stock.timesteps[index]), atol=1e-6)
    assert torch.equal(velocity(clean, noise), stock.training_target(clean, noise, None))


def test_experts_split_the_grid_at_the_boundary() -> None:
    high = NoiseLevels.build(PAIR, Expert.HIGH_NOISE)
    low = NoiseLevels.build(PAIR, Expert.LOW_NOISE)
    assert len(high.sigmas) == 358, "the index that the recipe gives for t = 0.9 at shift 5"
    assert torch.equal(torch.cat([high.sigmas, low.sigmas]), shifted_grid(5.0))
    assert float(high.sigmas.min()) >= 0.9 > float(low.sigmas.max())
    # In bfloat16, diffsynth's training precision, 26 of them would be distinct.
    assert len(torch.unique(high.sigmas * 1000)) == 358
    assert len(torch.unique((high.sigmas * 1000).bfloat16())) < 30


@pytest.mark.parametrize("weighting", ["Uniform", "Bell"])
def test_weights_average_one_within_an_expert(weighting: Any) -> None:
    for expert in PAIR.experts:
        levels = NoiseLevels.build(PAIR, expert, weighting)
        assert float(levels.weights.mean()) == pytest.approx(1, abs=1e-5)
        assert bool((levels.weights == 1).all()) == (weighting == "Uniform")


def test_draws_are_uniform_over_the_grid_and_seeded() -> None:
    levels = NoiseLevels.build(PAIR, Expert.HIGH_NOISE)
    sigmas, _ = levels.draw(20_000, torch.Generator().manual_seed(1))
    again, _ = levels.draw(20_000, torch.Generator().manual_seed(1))
    assert torch.equal(sigmas, again)
    for fraction in (0.1, 0.5, 0.9):
        below = float((sigmas < levels.quantile(fraction)).float().mean())
        assert below == pytest.approx(fraction, abs=0.02)


@pytest.mark.parametrize("name", ["tiny21", "tiny22"])
def test_forward_equals_the_stock_pass(name: str, request: pytest.FixtureRequest) -> None:
    files: ModelFiles = request.getfixturevalue(name)
    dit = load.load_dit(files, files.preset.experts[0], torch.float32, CPU)
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 16, 3, 6, 8, generator=generator)
    conditions = Conditions(
        torch.randn(1, 512, 64, generator=generator),
        torch.randn(1, 20, 3, 6, 8, generator=generator),
        torch.randn(1, 257, 1280, generator=generator) if files.preset.uses_clip else None,
    )
    sigma = torch.tensor([0.8125])
    with torch.no_grad():
        ours = velocity_of(dit, noisy, sigma, conditions, dtype=torch.float32)
        stock = model_fn_wan_video(
            dit, latents=noisy, timestep=sigma * 1000, context=conditions.context_BLD,
            y=conditions.y_BCTHW, clip_feature=conditions.clip_BLD,
        )  # fmt: skip
    assert ours.std() > 0.1
    assert torch.allclose(ours, stock, atol=1e-5)


def test_bfloat16_weights_still_tell_close_timesteps_apart(tiny22: ModelFiles) -> None:
    dit = load.load_dit(tiny22, Expert.HIGH_NOISE, torch.bfloat16, CPU)
    keep_time_embedding_fp32(dit)
    seen: list[torch.Tensor] = []
    dit.time_projection.register_forward_hook(lambda *call: seen.append(call[2]))
    noisy = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    conditions = Conditions(torch.zeros(1, 512, 64), torch.zeros(1, 20, 2, 4, 4), None).to(
        CPU, torch.bfloat16
    )
    close = torch.tensor([0.9500]), torch.tensor([0.9505])
    assert close[0].mul(1000).bfloat16() == close[1].mul(1000).bfloat16()
    with torch.no_grad():
        for sigma in close:
            velocity_bf16 = velocity_of(dit, noisy, sigma, conditions, dtype=torch.bfloat16)
    assert velocity_bf16.dtype == torch.float32
    assert seen[0].dtype == torch.float32
    assert not torch.equal(*seen)


def test_sampler_sees_every_clip_once_a_pass_and_resumes_by_position() -> None:
    sampler = Sampler(["one"] * 5, seed=3)
    drawn = [sampler.take()[0] for _ in range(20)]
    passes = [drawn[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    later = Sampler(["one"] * 5, seed=3, position=7)
    assert [later.take()[0] for _ in range(13)] == drawn[7:]
    other = Sampler(["one"] * 5, seed=4)
    assert [other.take()[0] for _ in range(20)] != drawn


def test_steps_follow_from_epochs() -> None:
    settings = {"epochs": 2, "repeat": 10, "batch": 2, "accumulation": 4}
    assert total_steps(7, steps=None, **settings) == 18, "140 clips, 8 a step, rounded up"
    assert total_steps(7, steps=33, **settings) == 33
