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
    assert plan.seconds["transformer"] == pytest.approx(40 * 19.26)
    assert plan.seconds["VAE decode"] == pytest.approx(1.718)
    assert plan.gib == pytest.approx(42.8, rel=0.1)
    unguided = plan_serving(replace(WORK, guided=False), gpu())
    assert unguided.seconds["transformer"] == pytest.approx(plan.seconds["transformer"] / 2)
    two, four = (plan_serving(replace(WORK, gpus=count), gpu()) for count in (2, 4))
    assert two.seconds["transformer"] == pytest.approx(40 * 9.872, rel=0.001)
    assert two.seconds["VAE decode"] == pytest.approx(0.994, rel=0.001)
    assert plan.seconds["transformer"] / four.seconds["transformer"] == pytest.approx(1.951 * 1.857)
    assert (two.confidence, four.confidence) == ("Extrapolated", "Estimated")
    held = [each.memory["activations"] for each in (plan, two, four)]
    assert held == [pytest.approx(each) for each in (held[0], held[0], held[0] / 2)]


def test_a_profile_saves_what_its_arithmetic_does_on_a_gpu() -> None:
    def seconds(name: str) -> list[float]:
        plans = [plan_serving(replace(WORK, profile=each), gpu(name)) for each in PROFILES]
        return [each.seconds["transformer"] / 80 for each in plans]

    measured_ones = [pytest.approx(each) for each in (9.63, 8.015, 7.046)]
    assert seconds("H200-141GB")[1:] == measured_ones
    assert seconds("H200-141GB") == seconds("H100-80GB"), "at one limit of power"
    exact, *others = seconds("A100-80GB")
    assert len(set(others)) == 1, "no attention in 8 bits"
    assert others[0] < exact
