"""Steps that take the transformer's last answer again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusers_peer import random_inputs
from forked_ranks import on_ranks
from renders import CPU, make_order, make_task, rendered
from wan_runtime.contract.sampling import Profile, StepCachePolicy, computed_steps
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.dit.transformer import Pass, Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.presets import PRESETS
from wan_runtime.rendering import step_cache
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.render import Renderer
from wan_runtime.rendering.sampling import Prompted, denoise, schedule
from wan_runtime.rendering.spacing import spaced
from wan_runtime.rendering.step_cache import Answers, Caching, EasyCache, Estimated, TeaCache

pytest_plugins = ["ml_fixtures"]

STEPS = 40
Asked = list[tuple[Expert, float]]


def latents(value: float) -> Tensor:
    return torch.full((1, 16, 1, 2, 2), value)


FREE = range(100)


def test_what_moves_at_one_rate_is_answered_until_the_change_adds_up() -> None:
    cache = Estimated(EasyCache(), 0.25, FREE)
    for number, x in enumerate((10.0, 9.0)):
        assert not cache.allows(number, latents(x), 0.5), "a rate needs two answers"
        cache.learn(latents(x), 0.5, [latents(2 * x), latents(-x)])
    assert cache.allows(2, latents(8.0), 0.5), "2 x 1 / 18 is 0.11"
    positive, negative = cache.reuse(latents(8.0), 0.5)
    assert torch.equal(positive, latents(18.0)), "as it was last"
    assert torch.equal(negative, latents(-9.0))
    assert cache.allows(3, latents(7.0), 0.5), "0.11 + 2 x 1 / 18 is 0.22"
    cache.reuse(latents(7.0), 0.5)
    assert not cache.allows(4, latents(6.0), 0.5)
    cache.learn(latents(6.0), 0.5, [latents(12.0), latents(-6.0)])
    assert not Estimated(EasyCache(), 9.0, range(3, 4)).allows(2, latents(1.0), 0.5)


def test_latents_that_stand_still_have_no_rate() -> None:
    cache = Estimated(EasyCache(), 0.25, FREE)
    for _ in range(2):
        cache.learn(latents(1.0), 0.5, [latents(1.0)])
    assert not cache.allows(2, latents(1.0), 0.5)


def test_a_velocity_goes_on_by_half_of_its_last_change_at_most() -> None:
    answers = Answers()
    assert not answers
    answers.learn(0.9, [latents(4.0), latents(1.0)])
    assert torch.equal(answers.at(0.8)[0], latents(4.0)), "a change needs two"
    answers.learn(0.8, [latents(6.0), latents(1.0)])
    torch.testing.assert_close(answers.at(0.77)[0], latents(6.6))
    assert torch.equal(answers.at(0.2)[0], latents(7.0))
    assert torch.equal(answers.at(0.2)[1], latents(1.0))
    answers.learn(0.2, [latents(1.0), latents(0.0)])
    torch.testing.assert_close(answers.at(0.1)[0], latents(1.0 - 5 / 6))


@pytest.mark.parametrize("steps", [17, 20, 40, 50, 200])
@pytest.mark.parametrize("name", ["Wan2.1-I2V-14B-720P", "Wan2.2-I2V-A14B"])
@pytest.mark.parametrize("profile", ["Balanced", "Fast"])
def test_computed_steps_lie_evenly_in_noise_level(profile: Profile, name: str, steps: int) -> None:
    preset = PRESETS[name]
    whole = schedule(preset, 5.0, steps, 5.0, 5.0)
    sigmas, experts = [each.sigma for each in whole], [each.expert for each in whole]
    count = computed_steps(profile, steps)
    found = spaced(sigmas, experts, count)
    assert count - 4 <= len(found) <= count
    first = max(2, round(steps / 10))
    assert set(range(first)) | {steps - 1} <= found
    if len(preset.experts) == 2:
        switch = experts.index(Expert.LOW_NOISE)
        assert {switch, switch + 1} <= found
    ends = [*sigmas[1:], 0.0]
    falls = [
        sigmas[one] - ends[other - 1] for one, other in pairwise(sorted(found)) if other > one + 1
    ]
    assert max(falls) < 1 / (count - first) + 0.07
    assert [number for number in range(steps) if sigmas[number] < 0.3] == [
        number for number in sorted(found) if sigmas[number] < 0.3
    ] or steps > 60, "large steps of noise level are each computed"


def test_how_many_steps_are_computed() -> None:
    assert [computed_steps(each, 40) for each in get_args(Profile)] == [40, 40, 20, 16]
    assert [computed_steps("Fast", steps) for steps in (4, 16, 20, 41, 100)] == [4, 16, 16, 17, 40]
    assert spaced([1.0, 0.5], [Expert.ONLY] * 2, 2) == {0, 1}


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


@pytest.mark.parametrize(
    ("name", "policy", "profile", "least", "most"),
    [
        ("tiny21", "Spaced", "Balanced", 18, 20),
        ("tiny21", "Spaced", "Fast", 14, 16),
        ("tiny22", "Spaced", "Fast", 14, 16),
        ("tiny21", "EasyCache", "Fast", 14, 24),
        ("tiny22", "EasyCache", "Fast", 14, 26),
    ],
)
def test_fewer_steps_are_computed_and_show_the_same(
    name: str,
    policy: StepCachePolicy,
    profile: Profile,
    least: int,
    most: int,
    computed: list[float],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    files: ModelFiles = request.getfixturevalue(name)
    model = Model(files, alone(), CPU, "Lossless", policy)
    renderer = Renderer(model, AdapterCache(2**30, model.dtype))
    made = {}
    for each in ("Lossless", profile):
        computed.clear()
        made[each] = rendered(renderer, make_task(tmp_path, steps=STEPS, profile=each)).frames
        levels = list(dict.fromkeys(computed))
        assert len(computed) == 2 * len(levels), "both branches, or none"
        ahead = renderer.computed(make_order(steps=STEPS, profile=each))
        if each == "Lossless":
            every = levels
        known = STEPS if policy == "EasyCache" else len(levels)
        assert len(ahead) == known, "as workers count what is left"
    assert len(every) == STEPS
    assert [*levels[:4], levels[-1]] == [*every[:4], every[-1]]
    assert least <= len(levels) <= most
    boundary = files.preset.boundary
    if boundary is not None:
        low = [level for level in every if level < boundary]
        assert set(low[:2]) <= set(levels), "another expert begins anew"
    one, other = (each.astype(float) for each in made.values() if each is not None)
    assert 45 < 10 * np.log10(255**2 / np.mean((one[1:] - other[1:]) ** 2)) < 90


def test_balanced_computes_all_where_an_estimate_was_chosen(
    tiny21: ModelFiles, computed: list[float], tmp_path: Path
) -> None:
    model = Model(tiny21, alone(), CPU, "Balanced", "TeaCache")
    renderer = Renderer(model, AdapterCache(2**30, model.dtype))
    rendered(renderer, make_task(tmp_path, steps=18))
    assert len(computed) == 36


def test_a_worker_with_exact_computes_all(
    tiny21: ModelFiles, computed: list[float], tmp_path: Path
) -> None:
    model = Model(tiny21, alone(), CPU, "Exact")
    renderer = Renderer(model, AdapterCache(2**30, model.dtype))
    rendered(renderer, make_task(tmp_path, steps=18, profile="Fast"))
    assert len(computed) == 36


def test_teacache_estimates_by_the_noise_level_alone() -> None:
    levels = {0.9: 1.0, 0.8: 1.1, 0.7: 1.43}
    tea = TeaCache((2.0, 0.0, 0.5), lambda sigma: torch.tensor([levels[sigma]]))
    x, other = latents(1.0), latents(-3.0)
    assert tea.since(x, 0.9) is None
    tea.note(x, 0.9, x, computed=True)
    assert tea.since(other, 0.8) == pytest.approx(2 * 0.1**2 + 0.5, abs=1e-6)
    tea.note(other, 0.8, other, computed=False)
    assert tea.since(x, 0.7) == pytest.approx(2 * 0.3**2 + 0.5, abs=1e-6), "since the step before"


@pytest.mark.parametrize("policy", ["EasyCache", "TeaCache"])
def test_the_first_steps_and_the_last_are_computed_whatever_is_estimated(
    policy: StepCachePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(step_cache.THRESHOLDS, policy, 1e9)
    sigmas = [1 - number / STEPS for number in range(STEPS)]
    cache = Caching(policy, PRESETS["Wan2.1-I2V-14B-720P"]).begin(
        "Fast", sigmas, [Expert.ONLY] * STEPS, lambda sigma: torch.ones(1)
    )
    assert cache is not None
    left_out = []
    for number, sigma in enumerate(sigmas):
        x = latents(1.0 + number)
        if cache.allows(number, x, sigma):
            left_out.append(number)
            cache.reuse(x, sigma)
        else:
            cache.learn(x, sigma, [x, x])
    assert left_out == list(range(8, STEPS - 1))


def test_only_what_was_fitted_has_teacache() -> None:
    fitted = [name for name, preset in PRESETS.items() if preset.teacache]
    assert fitted == [name for name in PRESETS if name.startswith("Wan2.1")]
    with pytest.raises(InputError, match=r"stepCache: TeaCache was never fitted for Wan2\.2"):
        Caching("TeaCache", PRESETS["Wan2.2-I2V-A14B"])


@pytest.mark.parametrize("policy", ["Spaced", "EasyCache", "TeaCache"])
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
                caching=Caching(policy, tiny21.preset),
            )
        return list(dict.fromkeys(levels)), made

    (one, first), (two, second) = on_ranks(2, tmp_path, video)
    computed, wanted = video(alone())
    assert one == two == computed
    assert STEPS / 4 < len(computed) < STEPS
    assert torch.equal(first, second)
    torch.testing.assert_close(first, wanted, rtol=1e-4, atol=1e-5)
