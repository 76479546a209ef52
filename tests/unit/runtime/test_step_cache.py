"""Steps that take the transformer's last answer again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusers_peer import random_inputs
from forked_ranks import on_ranks
from renders import CPU, make_task, rendered
from wan_runtime.contract.service import StepCachePolicy
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.dit.transformer import Pass, Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.render import Renderer
from wan_runtime.rendering.sampling import Prompted, denoise, schedule
from wan_runtime.rendering.step_cache import EasyCache, StepCache, TeaCache, step_cache

pytest_plugins = ["ml_fixtures"]

STEPS = 20
Asked = list[tuple[Expert, float]]


def latents(value: float) -> Tensor:
    return torch.full((1, 16, 1, 2, 2), value)


def test_what_moves_at_one_rate_is_answered_until_the_change_adds_up() -> None:
    cache = StepCache(EasyCache(), threshold=0.25)
    for x in (10.0, 9.0):
        assert not cache.allows(latents(x), 0.5), "a rate needs two answers"
        cache.learn(latents(x), 0.5, [latents(2 * x), latents(-x)])
    assert cache.allows(latents(8.0), 0.5), "2 x 1 / 18 is 0.11"
    positive, negative = cache.reuse(latents(8.0), 0.5)
    assert torch.equal(positive, latents(17.0)), "what was added to 9 is added to 8"
    assert torch.equal(negative, latents(-10.0))
    assert cache.allows(latents(7.0), 0.5), "0.11 + 2 x 1 / 17 is 0.23"
    cache.reuse(latents(7.0), 0.5)
    assert not cache.allows(latents(6.0), 0.5)
    cache.learn(latents(6.0), 0.5, [latents(12.0), latents(-6.0)])
    found = cache.reuse(latents(5.0), 0.5)[0]
    assert torch.equal(found, latents(11.0)), "of the last that was computed"


def test_latents_that_stand_still_have_no_rate() -> None:
    cache = StepCache(EasyCache(), threshold=0.25)
    for _ in range(2):
        cache.learn(latents(1.0), 0.5, [latents(1.0)])
    assert not cache.allows(latents(1.0), 0.5)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Noise levels that a transformer was run at."""
    found: list[float] = []
    velocity = Pass.velocity

    def noted(on: Pass, noisy: Tensor, sigmas: Tensor) -> Tensor:
        found.append(float(sigmas[0]))
        return velocity(on, noisy, sigmas)

    monkeypatch.setattr(Pass, "velocity", noted)
    return found


@pytest.mark.parametrize(("name", "most"), [("tiny21", 12), ("tiny22", 14)])
def test_fast_computes_fewer_steps_and_shows_the_same(
    name: str, most: int, computed: list[float], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    files: ModelFiles = request.getfixturevalue(name)
    model = Model(files, alone(), CPU, "Lossless")
    renderer = Renderer(model, AdapterCache(2**30, model.dtype))
    made = {}
    for profile in ("Lossless", "Fast"):
        computed.clear()
        made[profile] = rendered(renderer, make_task(tmp_path, steps=STEPS, profile=profile)).frames
        levels = list(dict.fromkeys(computed))
        assert len(computed) == 2 * len(levels), "both branches, or none"
        if profile == "Lossless":
            every = levels
    assert len(every) == STEPS
    assert [*levels[:4], levels[-1]] == [*every[:4], every[-1]]
    assert STEPS / 2 <= len(levels) <= most
    boundary = files.preset.boundary
    if boundary is not None:
        low = [level for level in every if level < boundary]
        assert set(low[:2]) <= set(levels), "another expert begins anew"
    one, other = (each.astype(float) for each in made.values() if each is not None)
    assert 35 < 10 * np.log10(255**2 / np.mean((one[1:] - other[1:]) ** 2)) < 90


def test_a_worker_with_exact_computes_all(
    tiny21: ModelFiles, computed: list[float], tmp_path: Path
) -> None:
    model = Model(tiny21, alone(), CPU, "Exact")
    renderer = Renderer(model, AdapterCache(2**30, model.dtype))
    rendered(renderer, make_task(tmp_path, steps=6, profile="Fast"))
    assert len(computed) == 12


def test_teacache_estimates_by_the_noise_level_alone() -> None:
    levels = {0.9: 1.0, 0.8: 1.1, 0.7: 1.43}
    tea = TeaCache((2.0, 0.0, 0.5), lambda sigma: torch.tensor([levels[sigma]]))
    x, other = latents(1.0), latents(-3.0)
    assert tea.since(x, 0.9) is None
    tea.note(x, 0.9, x, computed=True)
    assert tea.since(other, 0.8) == pytest.approx(2 * 0.1**2 + 0.5, abs=1e-6)
    tea.note(other, 0.8, other, computed=False)
    assert tea.since(x, 0.7) == pytest.approx(2 * 0.3**2 + 0.5, abs=1e-6), "since the step before"


def test_only_what_was_fitted_has_teacache() -> None:
    fitted = [name for name, preset in PRESETS.items() if preset.teacache]
    assert fitted == [name for name in PRESETS if name.startswith("Wan2.1")]
    with pytest.raises(ValueError, match=r"no polynomial of TeaCache was published for Wan2\.2"):
        step_cache("TeaCache", PRESETS["Wan2.2-I2V-A14B"])


@pytest.mark.parametrize("policy", ["EasyCache", "TeaCache"])
def test_two_ranks_leave_out_the_same_steps(
    policy: StepCachePolicy, tiny21: ModelFiles, tmp_path: Path
) -> None:
    """A branch of guidance each: what a rank alone computes, and no rank waits for the other."""
    noisy, conditions = random_inputs(clip=True)
    other = replace(conditions, context_BLD=conditions.context_BLD.flip(1))
    transformer = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32, profile="Fast")
    steps = schedule(tiny21.preset, 5.0, STEPS, 3.0, 3.0)

    def video(ranks: Ranks) -> tuple[list[float], Tensor]:
        levels: list[float] = []
        velocity = Pass.velocity
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Pass, "velocity",
                lambda on, x, sigma: (levels.append(float(sigma)), velocity(on, x, sigma))[1],
            )  # fmt: skip
            made = denoise(
                lambda _: transformer,
                steps,
                noisy,
                Prompted(conditions, other),
                ranks,
                "Fast",
                caching=step_cache(policy, tiny21.preset),
            )
        return list(dict.fromkeys(levels)), made

    (one, first), (two, second) = on_ranks(2, tmp_path, video)
    computed, wanted = video(alone())
    assert one == two == computed
    assert STEPS / 4 < len(computed) < STEPS
    assert torch.equal(first, second)
    torch.testing.assert_close(first, wanted, rtol=1e-4, atol=1e-5)
