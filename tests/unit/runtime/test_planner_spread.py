"""The planner on several GPUs: predictions, which must follow from their formulas."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from wan_runtime.contract.steps import Step
from wan_runtime.contract.training import Parallelism
from wan_runtime.planner.calibration import clip_of
from wan_runtime.planner.gpus import DEFAULTS, MEASURED_ON, Gpu, by_name
from wan_runtime.planner.host import plan_host
from wan_runtime.planner.remedies import remedies
from wan_runtime.planner.rows import measured
from wan_runtime.planner.run import plan_run
from wan_runtime.planner.spread import exchanged_bytes
from wan_runtime.planner.terms import host_gib
from wan_runtime.planner.training import TrainingPlan, plan_training
from wan_runtime.planner.workload import GIB, Training

LORA = Training(preset="Wan2.1-I2V-14B-720P", frames=81, width=1280, height=720, accumulation=8)
FULL = replace(LORA, method="full")
P = LORA.architecture.parameters


def gpu(name: str = MEASURED_ON) -> Gpu:
    found = by_name(name, DEFAULTS)
    assert found is not None
    return found


def planned(work: Training, **spread: object) -> TrainingPlan:
    return plan_training(replace(work, spread=Parallelism(**spread)), gpu())  # type: ignore[arg-type]


def test_clips_are_shared_and_memory_is_not() -> None:
    one, eight = planned(LORA), planned(LORA, gpus_per_node=8)
    assert eight.gib == pytest.approx(one.gib)
    exchange = eight.seconds["exchange of gradients"]
    assert eight.seconds_per_step - exchange == pytest.approx(one.seconds_per_step / 8, rel=0.01)
    assert 0 < exchange < 0.1
    assert eight.confidence == "Estimated"


def test_a_split_clip_takes_a_part_of_the_activations_of_each_gpu() -> None:
    one = planned(replace(LORA, accumulation=1))
    split = planned(replace(LORA, accumulation=1), gpus_per_node=8, sequence=8)
    for name in ("block inputs", "live block"):
        assert split.memory[name] == pytest.approx(one.memory[name] / 8)
    assert split.memory["base weights"] == one.memory["base weights"]
    # 41 GB over NVLink, of forward, recomputation and backward
    # Of forward, recomputation and backward.
    assert exchanged_bytes(split.work, 3.0) == pytest.approx(40.6e9, rel=0.05)
    assert 6 < one.seconds_per_step / split.seconds_per_step < 8


def test_zero_shards_the_states() -> None:
    for ranks, stage, gb in ((4, 3, 65.6), (8, 3, 32.8), (4, 2, 131.2), (8, 2, 98.4)):
        plan = planned(FULL, gpus_per_node=ranks, zero_stage=stage)
        states = sum(plan.memory[name] for name in ("weights", "gradients", "optimizer"))
        assert states * GIB / 1e9 == pytest.approx(gb, rel=0.01)
    whole = planned(FULL, gpus_per_node=8)
    assert whole.memory["weights"] == planned(FULL).memory["weights"], "each has all of them"


def test_what_is_offloaded_is_in_host_memory() -> None:
    kept, moved, all_moved = (
        planned(FULL, gpus_per_node=8, zero_stage=3, offload=offload)
        for offload in ("None", "Optimizer", "OptimizerAndParameters")
    )
    assert kept.gib - moved.gib == pytest.approx(12 * P / 8 / GIB)
    assert moved.gib - all_moved.gib == pytest.approx(4 * P / 8 / GIB)
    assert moved.seconds["optimizer"] > kept.seconds["optimizer"]
    pods = [
        plan_host(plan.work, Step.TRAIN, fetches_model=False, clips=10).gib
        for plan in (kept, moved, all_moved)
    ]
    assert pods[1] - pods[0] == pytest.approx(16 * P / GIB)
    assert pods[2] - pods[1] == pytest.approx(4 * P / GIB), "pinned weights may take twice"
    halves = replace(moved.work, spread=moved.work.spread.model_copy(update={"nodes": 2}))
    half = plan_host(halves, Step.TRAIN, fetches_model=False, clips=10)
    assert half.memory["offloaded by ZeRO"] == pytest.approx(8 * P / GIB)


def test_the_network_is_slower_than_a_node() -> None:
    near = planned(FULL, gpus_per_node=8, zero_stage=3)
    far = planned(FULL, nodes=2, gpus_per_node=4, zero_stage=3)
    name = "exchange of weights"
    assert far.seconds[name] == pytest.approx(5 * near.seconds[name])


def test_a_rank_takes_no_part_of_a_batch_with_another() -> None:
    batched = replace(LORA, batch=4, accumulation=1)
    for gpus, each in ((1, 4), (2, 2), (4, 1)):
        work = replace(batched, spread=Parallelism(gpus_per_node=gpus))
        assert work.micro_batch == each
        assert plan_training(work, gpu()).memory["block inputs"] == pytest.approx(
            each * plan_training(LORA, gpu()).memory["block inputs"]
        )


def test_all_gpus_are_paid_for() -> None:
    one = plan_run(LORA, gpu(), steps=100)
    eight = plan_run(replace(LORA, spread=Parallelism(gpus_per_node=8)), gpu(), steps=100)
    assert one.cost is not None
    assert eight.cost == pytest.approx(one.cost, rel=0.02)
    assert eight.hours is not None
    assert eight.hours * 3.0 * 8 == pytest.approx(eight.cost)


def test_what_does_not_fit_is_split_over_the_fewest_gpus() -> None:
    for name, count in ((MEASURED_ON, 2), ("L40S-48GB", 8)):
        assert f"parallelism.gpusPerNode: {count}" in remedies(LORA, gpu(name), DEFAULTS)
    pairs = replace(LORA, spread=Parallelism(gpus_per_node=4, sequence=1))
    assert "parallelism.gpusPerNode: 8" in remedies(pairs, gpu(), DEFAULTS), "as many groups"
    whole = replace(FULL, frames=25, spread=Parallelism(gpus_per_node=8))
    assert remedies(whole, gpu("H200-141GB"), DEFAULTS)[0].startswith("parallelism.zeroStage: ")


WHOLE = [
    Training(preset=preset, frames=frames, width=width, height=height, method="full")
    for preset, width, height in (
        ("Wan2.1-I2V-14B-480P", 832, 480),
        ("Wan2.1-I2V-14B-720P", 1280, 720),
        ("Wan2.2-I2V-A14B", 1280, 720),
    )
    for frames in (17, 49, 81)
]
OFFLOADED = re.compile(
    r"parallelism: \{(?:gpusPerNode: (\d), )?zeroStage: 3, offload: (\w+)\} with (\d+) GiB of host "
    "memory in each node"
)
ELSEWHERE = re.compile(r"parallelism\.gpusPerNode: (\d) on GPUs of type (\S+)")


def split(work: Training, gpus: int, **more: Any) -> Training:
    """Over so many GPUs, with ZeRO 3."""
    spread = Parallelism(gpus_per_node=gpus, sequence=gpus, zero_stage=3, **more)
    return replace(work, spread=spread)


@pytest.mark.parametrize("name", ["L4-24GB", "RTX-4090-24GB", "A100-40GB", "L40S-48GB"])
@pytest.mark.parametrize("work", WHOLE, ids=lambda work: f"{work.preset}-{work.frames}")
def test_all_weights_fit_with_what_is_named(work: Training, name: str) -> None:
    """No single GPU of the catalogue holds them."""
    on, found = gpu(name), remedies(work, gpu(name), DEFAULTS)
    assert found
    if found[0] == "parallelism.gpusPerNode: 8":
        assert plan_training(split(work, 8), on).fits
        return
    said, other = (OFFLOADED.fullmatch(found[0]), ELSEWHERE.fullmatch(found[1]))
    assert said is not None
    assert other is not None
    count = int(said[1] or 1)
    there = split(work, count, offload=said[2])
    assert plan_training(there, on).fits
    host = plan_host(there, Step.TRAIN, fetches_model=False, clips=1).gib
    assert f"{host:.0f}" == said[3]
    for fewer in (each for each in (1, 2, 4, 5) if each < count):
        for offload in ("None", "Optimizer", "OptimizerAndParameters"):
            assert not plan_training(split(work, fewer, offload=offload), on).fits
    larger = gpu(other[2])
    assert plan_training(split(work, int(other[1])), larger).fits
    smaller = [each for each in DEFAULTS if each.memory_gib < larger.memory_gib]
    assert not any(plan_training(split(work, 8), each).fits for each in smaller)


def test_of_what_there_is_not_nothing_is_named() -> None:
    work, small = WHOLE[2], gpu("RTX-4090-24GB")
    assert remedies(work, small, [small])[0].startswith("parallelism: {gpusPerNode: 2, zeroStage")
    [only] = remedies(work, small, DEFAULTS, has_room=lambda work: False)
    assert ELSEWHERE.fullmatch(only), "host memory is short"
    assert remedies(work, small, [small], has_room=lambda work: False) == []
    offloaded = split(work, 1, offload="Optimizer")
    assert remedies(offloaded, small, [small]) == ["parallelism.gpusPerNode: 8"], "no more of it"


def test_two_gpus_that_split_a_clip_are_as_measured() -> None:
    row = measured().split
    work = clip_of(row)
    assert isinstance(work, Training)
    on = gpu(row.gpu)
    assert row.seconds is not None
    assert row.allocated_gib is not None
    plan = plan_training(work, on)
    assert plan.seconds_per_step == pytest.approx(row.seconds, rel=0.001)
    beside = plan.memory["fragmentation"] + plan.memory["CUDA context"]
    beside += plan.memory["copies for host memory"] - host_gib(work)
    assert plan.gib - beside == pytest.approx(row.allocated_gib, rel=0.05)
    whole = plan_training(replace(work, spread=Parallelism()), on)
    assert 1.85 < whole.seconds_per_step / plan.seconds_per_step < 1.95


def test_both_experts_take_their_weights_twice_and_a_step_as_long() -> None:
    one = Training(preset="Wan2.2-I2V-A14B", frames=81, width=1280, height=720)
    one = replace(one, checkpointing="KeepAttention")
    both = replace(one, experts=2)
    first, second = plan_training(one, gpu()), plan_training(both, gpu())
    for name, gib in first.memory.items():
        twice = name in ("base weights", "adapter, gradients, optimizer")
        assert second.memory[name] == gib * (2 if twice else 1), name
    assert second.seconds == first.seconds
    assert "parallelism.experts: Sequential" in remedies(both, gpu(), [])
    hosts = [
        plan_host(work, Step.TRAIN, fetches_model=True, clips=10).scratch for work in (one, both)
    ]
    name = "base model, as released"
    assert hosts[1][name] == 2 * hosts[0][name]
