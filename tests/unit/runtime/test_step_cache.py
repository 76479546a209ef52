"""Steps that take the transformer's last answer again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from renders import CPU, make_task, rendered
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.dit.transformer import Pass
from wan_runtime.models.layout import ModelFiles
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.render import Renderer
from wan_runtime.rendering.step_cache import StepCache

pytest_plugins = ["ml_fixtures"]

STEPS = 20
Asked = list[tuple[Expert, float]]


def latents(value: float) -> Tensor:
    return torch.full((1, 16, 1, 2, 2), value)


def test_what_moves_at_one_rate_is_answered_until_the_change_adds_up() -> None:
    cache = StepCache(threshold=0.25)
    for x in (10.0, 9.0):
        assert not cache.allows(latents(x)), "a rate needs two answers"
        cache.learn(latents(x), [latents(2 * x), latents(-x)])
    assert cache.allows(latents(8.0)), "2 x 1 / 18 is 0.11"
    positive, negative = cache.reuse(latents(8.0))
    assert torch.equal(positive, latents(17.0)), "what was added to 9 is added to 8"
    assert torch.equal(negative, latents(-10.0))
    assert cache.allows(latents(7.0)), "0.11 + 2 x 1 / 17 is 0.23"
    cache.reuse(latents(7.0))
    assert not cache.allows(latents(6.0))
    cache.learn(latents(6.0), [latents(12.0), latents(-6.0)])
    assert torch.equal(cache.reuse(latents(5.0))[0], latents(11.0)), "of the last that was computed"


def test_latents_that_stand_still_have_no_rate() -> None:
    cache = StepCache()
    for _ in range(2):
        cache.learn(latents(1.0), [latents(1.0)])
    assert not cache.allows(latents(1.0))


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
