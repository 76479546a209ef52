"""The planner's terms of base weights in 8 bits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wan_runtime.models.dit import float8_base
from wan_runtime.planner import spread
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Training

WAN21 = Training(preset="Wan2.1-I2V-14B-720P", frames=81, width=1280, height=720)


def gpu(name: str) -> Gpu:
    found = by_name(name, DEFAULTS)
    assert found is not None
    return found


def test_base_weights_in_8_bits_take_half_but_for_the_outer_blocks() -> None:
    bf16, fp8 = (
        plan_training(replace(WAN21, checkpointing="Offload", precision=each), gpu("H200-141GB"))
        for each in ("BF16", "FP8")
    )
    saved = bf16.memory["base weights"] - fp8.memory["base weights"]
    assert saved == pytest.approx(38 * (10 * 5120**2 + 2 * 5120 * 13824) / 2**30)
    assert bf16.gib - fp8.gib == pytest.approx(saved - fp8.memory["block's dense weights"])
    assert fp8.gib < 50, "81 frames of 1280x720"
    shorter = replace(WAN21, frames=61, checkpointing="Offload", precision="FP8")
    assert plan_training(shorter, gpu("L40S-48GB")).verdict == "yes"
    assert spread.OUTER_BLOCKS == 2 * float8_base.KEPT
    assert fp8.memory_confidence == "Estimated"
