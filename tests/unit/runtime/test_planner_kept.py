"""The planner where attention is not computed twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wan_runtime.contract.steps import Step
from wan_runtime.contract.training import Checkpointing, Parallelism
from wan_runtime.planner.calibration import clip_of
from wan_runtime.planner.gpus import DEFAULTS, MEASURED_ON, Gpu, by_name
from wan_runtime.planner.host import plan_host
from wan_runtime.planner.rows import Row, measured
from wan_runtime.planner.terms import host_gib
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Training

WAN21 = Training(preset="Wan2.1-I2V-14B-720P", frames=81, width=1280, height=720)


def gpu(name: str = MEASURED_ON) -> Gpu:
    found = by_name(name, DEFAULTS)
    assert found is not None
    return found


@pytest.mark.parametrize("row", measured().kept(), ids=lambda row: row.id)
def test_steps_that_keep_attention_are_as_measured(row: Row) -> None:
    on, work = gpu(row.gpu), clip_of(row)
    assert isinstance(work, Training)
    plan = plan_training(work, on)
    assert row.seconds is not None
    assert row.allocated_gib is not None
    assert plan.seconds_per_step == pytest.approx(row.seconds, rel=0.03)
    assert min(plan.seconds.values()) >= 0
    beside = plan.memory["fragmentation"] + plan.memory["CUDA context"]
    if row.checkpointing == "KeepAttention":  # there was room for all results on the GPU
        beside += plan.memory["copies for host memory"] - host_gib(work)
    assert plan.gib - beside == pytest.approx(row.allocated_gib, rel=0.011)
    assert (
        plan.seconds_per_step
        < 0.8 * plan_training(replace(work, checkpointing="Full"), on).seconds_per_step
    )


def test_what_is_kept_in_host_memory_is_asked_of_the_node() -> None:
    def memory(checkpointing: Checkpointing) -> float:
        work = replace(WAN21, checkpointing=checkpointing)
        return plan_host(work, Step.TRAIN, fetches_model=False, clips=1).gib

    kept = WAN21.architecture.layers * WAN21.architecture.activation_bytes(WAN21.tokens) / 2**30
    assert memory("KeepAttention") == pytest.approx(memory("Full") + kept)
    assert memory("Offload") == pytest.approx(memory("Full") + 2 * kept)


def test_gradients_that_repeat_take_the_time_that_a_whole_step_did() -> None:
    row, usual = measured().repeatable
    work, on = clip_of(row), gpu(row.gpu)
    assert isinstance(work, Training)
    plans = [plan_training(replace(work, deterministic=each), on) for each in (True, False)]
    assert row.seconds is not None
    assert usual.seconds is not None
    more = plans[0].seconds_per_step - plans[1].seconds_per_step
    assert more == pytest.approx(row.seconds - usual.seconds)
    short = replace(work, frames=25, deterministic=True)
    assert plan_training(short, on).seconds["deterministic kernels"] < more / 8, "as attention"


def test_gradients_that_repeat_take_room_where_attention_is_kept() -> None:
    kept = replace(WAN21, checkpointing="Offload")
    usual, plan = (plan_training(replace(kept, deterministic=on), gpu()) for on in (False, True))
    assert plan.gib - usual.gib == pytest.approx(2 * 75_600**2 / 2**30), "a head at a time"
    assert plan.confidence == "Estimated"
    shared = replace(kept, deterministic=True, spread=Parallelism(gpus_per_node=2, sequence=2))
    assert plan_training(shared, gpu()).memory["repeatable gradient"] == pytest.approx(
        plan.memory["repeatable gradient"]
    )
