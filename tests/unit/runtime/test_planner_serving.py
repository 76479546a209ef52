"""Plans of videos against what was measured of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wan_runtime.contract.sampling import Profile
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving

WORK = Serving(preset="Wan2.1-I2V-14B-720P", frames=81, width=1280, height=720, steps=40)
PROFILES: tuple[Profile, ...] = ("Exact", "Lossless", "Balanced", "Fast")


def gpu(name: str = "H100-80GB") -> Gpu:
    found = by_name(name, DEFAULTS)
    assert found is not None
    return found


def test_a_clip_takes_what_a_forward_pass_was_measured_to_take() -> None:
    plan, exact = (
        plan_serving(each, gpu("H200-141GB")) for each in (WORK, replace(WORK, profile="Exact"))
    )
    assert exact.seconds["transformer"] == pytest.approx(80 * 12.40, rel=0.04)
    assert exact.seconds["VAE decode"] == pytest.approx(4.231)
    assert exact.gib == pytest.approx(40.2, rel=0.1)
    assert plan.seconds["transformer"] == pytest.approx(80 * 10.046)
    assert plan.seconds["VAE decode"] == pytest.approx(1.762)
    assert plan.gib == pytest.approx(42.8, rel=0.1)
    unguided = plan_serving(replace(WORK, guided=False), gpu())
    assert unguided.seconds["transformer"] == pytest.approx(plan.seconds["transformer"] / 2)
    two, four = (plan_serving(replace(WORK, gpus=count), gpu()) for count in (2, 4))
    assert two.seconds["transformer"] == pytest.approx(40 * 10.108, rel=0.002), "a whole clip"
    assert two.seconds["VAE decode"] == pytest.approx(1.009, rel=0.001)
    assert (two.confidence, four.confidence) == ("Extrapolated", "Estimated")
    held = [each.memory["activations"] for each in (plan, two, four)]
    assert held == [pytest.approx(each) for each in (held[0], held[0], held[0] / 2)]


def test_gpus_that_share_tokens_send_less_each_the_more_they_are() -> None:
    def parts(count: int, **change: object) -> tuple[float, float]:
        made = replace(WORK, gpus=count, **change)  # type: ignore[arg-type]
        seconds = plan_serving(made, gpu("H200-141GB")).seconds
        return seconds["transformer"] / 40, seconds.get("exchange of tokens", 0.0) / 40

    (_, none), (four, exchange), (eight, less) = (parts(count) for count in (2, 4, 8))
    assert none == 0, "guidance's passes are exchanged once a step"
    assert four == pytest.approx(2 * eight)
    # (N - 1) / N^2 of the activations
    assert exchange == pytest.approx(less * (1 / 4) / (3 / 16))
    share = sum(parts(2, guided=False)) / parts(1, guided=False)[0]
    assert share == pytest.approx(1 / 1.89), "as measured"
    assert parts(2, guided=False) == parts(4), "two share a pass either way"
    # Not what the rate of the exchange was taken from.
    assert sum(parts(2, guided=False, profile="Exact")) == pytest.approx(6.53, rel=0.04)


def test_a_profile_saves_what_its_arithmetic_does_on_a_gpu() -> None:
    def seconds(name: str) -> list[float]:
        plans = [plan_serving(replace(WORK, profile=each), gpu(name)) for each in PROFILES]
        return [each.seconds["transformer"] / 80 for each in plans]

    assert seconds("H200-141GB")[1] == pytest.approx(10.046)
    of_clips = [replace(WORK, preset="Wan2.2-I2V-A14B", profile=each) for each in PROFILES[2:]]
    passes = [plan_serving(each, gpu()).seconds["transformer"] / 80 for each in of_clips]
    assert passes == [pytest.approx(each) for each in (8.197, 7.275)], "as in whole clips"
    assert seconds("H200-141GB") == seconds("H100-80GB"), "at one limit of power"
    exact, *others = seconds("A100-80GB")
    assert len(set(others)) == 1, "no attention in 8 bits"
    assert others[0] < exact
