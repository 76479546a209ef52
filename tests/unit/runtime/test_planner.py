"""The planner against the rows it was measured by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffsynth.models.wan_video_dit import WanModel

from wan_runtime.contract.steps import Step
from wan_runtime.contract.training import LoraSpec, Parallelism
from wan_runtime.models import shapes, tiny
from wan_runtime.models.dit import lora
from wan_runtime.planner.architecture import (
    HEADS,
    TINY_HEADS,
    Architecture,
    architecture_of,
    tokens_of,
)
from wan_runtime.planner.bands import band
from wan_runtime.planner.calibration import Residual, calibrate, clip_of, leave_one_out
from wan_runtime.planner.gpus import (
    DEFAULTS,
    MEASURED_ON,
    Gpu,
    by_name,
    by_product,
    parse_catalogue,
)
from wan_runtime.planner.host import plan_host
from wan_runtime.planner.profiles import taken, taken_of
from wan_runtime.planner.remedies import remedies
from wan_runtime.planner.rows import Measured, Row, measured
from wan_runtime.planner.run import plan_run
from wan_runtime.planner.steps import CHECKPOINT_SHARE, STORE_GB_PER_SECOND, checkpoint_interval
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Training

ROOT = Path(__file__).parents[3]
LIMITS = {"GiB": 0.10, "seconds": 0.15}
TWO = Parallelism(gpus_per_node=2)
WAN21 = Training(preset="Wan2.1-I2V-14B-720P", frames=81, width=1280, height=720)
DIT: dict[str, Any] = {
    "patch_size": (1, 2, 2), "in_dim": 36, "dim": 5120, "ffn_dim": 13824, "freq_dim": 256,
    "text_dim": 4096, "out_dim": 16, "num_heads": 40, "num_layers": 40, "eps": 1e-6,
}  # fmt: skip


def gpu(name: str = MEASURED_ON) -> Gpu:
    found = by_name(name, DEFAULTS)
    assert found is not None
    return found


def too_far(table: Measured) -> list[Residual]:
    return [each for each in leave_one_out(table) if abs(each.error) > LIMITS[each.quantity]]


def with_row(table: Measured, row_id: str, **changes: float) -> Measured:
    rows = [row.model_copy(update=changes) if row.id == row_id else row for row in table.rows]
    return table.model_copy(update={"rows": tuple(rows)})


def test_each_row_is_predicted_from_the_others() -> None:
    assert too_far(measured()) == []


def test_every_calibrating_row_of_training_was_left_out() -> None:
    left_out = {(each.row.id, each.quantity) for each in leave_one_out(measured())}
    for row in (*measured().calibrating("Training"), *measured().kept()):
        assert {(row.id, "GiB"), (row.id, "seconds")} <= left_out
    assert ("forward-wan21-81", "seconds") in left_out


@pytest.mark.parametrize(
    ("row_id", "changes"),
    [
        ("train-wan21-45", {"seconds": 23.27 * 1.2}),
        ("train-wan22-45", {"seconds": 22.94 / 1.25}),
        ("train-wan22-25", {"allocated_gib": 47.02 * 1.15}),
        ("forward-wan21-81", {"seconds": 12.215 * 1.25}),
    ],
)
def test_a_row_that_disagrees_is_found(row_id: str, changes: dict[str, float]) -> None:
    assert row_id in {each.row.id for each in too_far(with_row(measured(), row_id, **changes))}


def test_what_ran_fits_and_what_ran_out_of_memory_does_not() -> None:
    checked = 0
    for row in measured().rows:
        if row.kind != "Training" or (row.code != "runtime" and not row.out_of_memory):
            continue
        work = clip_of(row)
        assert isinstance(work, Training)
        verdict = plan_training(work, gpu(row.gpu)).verdict
        assert verdict == "no" if row.out_of_memory else verdict in ("yes", "barely"), row.id
        checked += row.out_of_memory
    assert checked == 1


def test_only_code_that_images_run_calibrates() -> None:
    assert {row.code for row in measured().calibrating("Training")} == {"runtime"}
    altered = with_row(measured(), "train-wan21-61-compiled", seconds=1.0)
    assert calibrate(altered) == calibrate(measured())
    altered = with_row(measured(), "train-wan21-25-diffsynth", seconds=1.0)
    assert calibrate(altered) == calibrate(measured())
    altered = with_row(measured(), "train-wan21-45", seconds=20.0)
    assert calibrate(altered) != calibrate(measured())


def test_rows_of_several_gpus_are_not_taken_for_those_of_one() -> None:
    """Whatever code and kind they are of."""
    known = calibrate(measured())
    for row in measured().alone:
        half = 0.5 * row.seconds if row.seconds is not None else None
        several = row.model_copy(update={"id": "of two", "gpus": 2, "seconds": half})
        table = measured().model_copy(update={"rows": (*measured().rows, several)})
        assert calibrate(table) == known, row.id
        assert taken_of(table, known.rates) == taken()
    with pytest.raises(ValueError, match="sequence 2 does not divide 1 gpus"):
        Row.model_validate({**measured().split.model_dump(), "gpus": 1})


@pytest.mark.parametrize("image_input", [True, False])
def test_parameters_are_those_of_the_real_transformer(image_input: bool) -> None:
    with torch.device("meta"):
        dit = WanModel(has_image_input=image_input, **DIT)
    shape = Architecture(image_input=image_input)
    assert shape.parameters == sum(parameter.numel() for parameter in dit.parameters())
    assert shape.block_parameters == sum(p.numel() for p in dit.blocks[0].parameters())
    layers = lora.target_layers(dit, LoraSpec().target_modules)
    features = (dit.get_submodule(name) for name in layers)
    expected = sum(8 * (layer.in_features + layer.out_features) for layer in features)
    assert shape.lora_parameters(8, LoraSpec().target_modules) == expected


def test_memory_and_time_are_the_sums_of_their_terms() -> None:
    plan = plan_training(WAN21, gpu())
    assert plan.gib == pytest.approx(sum(plan.memory.values()))
    assert plan.memory["base weights"] == pytest.approx(2 * WAN21.architecture.parameters / 2**30)
    assert plan.memory["block inputs"] == pytest.approx(40 * 75_600 * 5120 * 2 / 2**30)
    doubled = plan_training(replace(WAN21, batch=2), gpu())
    assert doubled.seconds_per_step == pytest.approx(2 * plan.seconds_per_step, rel=0.01)
    assert doubled.memory["block inputs"] == pytest.approx(2 * plan.memory["block inputs"])
    assert doubled.memory["base weights"] == plan.memory["base weights"]


def test_a_mean_of_the_weights_is_another_copy_of_the_adapter() -> None:
    with_mean = replace(WAN21, ema=True)
    more = plan_training(with_mean, gpu()).gib - plan_training(WAN21, gpu()).gib
    assert more == pytest.approx(4 * WAN21.trainable / 2**30)
    assert with_mean.checkpoint_bytes - WAN21.checkpoint_bytes == 4 * WAN21.trainable


def test_deterministic_kernels_take_what_they_were_measured_to_take() -> None:
    short = replace(WAN21, frames=25, deterministic=True)
    plan = plan_training(short, gpu())
    assert plan.seconds_per_step == pytest.approx(17.09, rel=1e-3)
    assert plan.gib == plan_training(replace(short, deterministic=False), gpu()).gib
    assert (plan.memory_confidence, plan.confidence) == ("Extrapolated", "Estimated")
    altered = with_row(measured(), "train-wan21-25-deterministic", seconds=1.0)
    assert calibrate(altered).rates == calibrate(measured()).rates, "it calibrates nothing else"


def test_full_fine_tuning_takes_sixteen_bytes_a_parameter() -> None:
    full = plan_training(replace(WAN21, method="full"), gpu())
    total = sum(full.memory[name] for name in ("weights", "gradients", "optimizer"))
    assert total == pytest.approx(16 * WAN21.architecture.parameters / 2**30)
    assert full.seconds["linear layers"] > plan_training(WAN21, gpu()).seconds["linear layers"]


def test_the_heads_are_those_of_the_models() -> None:
    assert {each["num_heads"] for each in (shapes.DIT21, shapes.DIT22)} == {HEADS}
    assert {each["num_heads"] for each in (tiny.DIT21, tiny.DIT22)} == {TINY_HEADS}


def test_bands_are_wide_where_nothing_was_measured() -> None:
    near = replace(WAN21, frames=49)
    cases = {
        "Measured": (near, MEASURED_ON),
        "Extrapolated": (replace(near, batch=2), MEASURED_ON),
        "Estimated": (near, "A100-80GB"),
    }
    for confidence, (work, name) in cases.items():
        assert plan_training(work, gpu(name)).confidence == confidence
    for changes in ({"method": "full"}, {"checkpointing": "None"}, {"spread": TWO}):
        plan = plan_training(replace(near, **changes), gpu())  # type: ignore[arg-type]
        assert plan.confidence == "Estimated"
        assert plan.time_band >= 0.4
        assert plan.memory_band >= 0.25
    for quantity, limit in LIMITS.items():
        assert band("Measured", quantity) <= limit
        assert band("Measured", quantity) < band("Extrapolated", quantity)
        assert band("Extrapolated", quantity) < band("Estimated", quantity)


def test_what_does_not_fit_comes_with_the_smallest_changes_that_do() -> None:
    changes = remedies(WAN21, gpu(), DEFAULTS)
    offload = "gradientCheckpointing: Offload"
    float8, larger = "basePrecision: FP8", "a GPU of type H100-NVL-94GB"
    two, four = (f"parallelism.gpusPerNode: {count}" for count in (2, 4))
    assert changes == [offload, float8, two, "65 frames", "832x480", larger]
    assert plan_training(replace(WAN21, precision="FP8"), gpu()).fits
    assert plan_training(replace(WAN21, checkpointing="Offload"), gpu()).fits
    assert not plan_training(replace(WAN21, checkpointing="KeepAttention"), gpu()).fits
    assert plan_training(replace(WAN21, frames=65), gpu()).fits
    assert not plan_training(replace(WAN21, frames=69), gpu()).fits
    small = replace(WAN21, width=480, height=832, frames=77)
    found = remedies(small, gpu("L40S-48GB"), DEFAULTS)
    assert found == [offload, float8, four, "33 frames", "a GPU of type A100-80GB"]
    repeated = replace(small, deterministic=True)
    assert remedies(repeated, gpu("L40S-48GB"), DEFAULTS) == found[1:], "no room for Offload then"
    assert remedies(replace(WAN21, deterministic=True), gpu(), DEFAULTS) == changes
    assert remedies(replace(WAN21, frames=45, checkpointing="None"), gpu(), DEFAULTS)[0] == (
        "gradientCheckpointing: Full"
    )
    assert "batchSize: 2" in remedies(replace(WAN21, frames=25, batch=4), gpu(), DEFAULTS)
    full = replace(WAN21, method="full", frames=25)
    assert remedies(full, gpu(), DEFAULTS) == ["parallelism.gpusPerNode: 4", "method.lora"]


def test_over_buckets_the_largest_must_fit_and_time_is_their_mean() -> None:
    small, large = replace(WAN21, frames=25), replace(WAN21, frames=49)
    alone = {work.frames: plan_training(work, gpu()) for work in (small, large)}
    unknown = plan_run(large, gpu(), steps=100, smaller=[small])
    assert unknown.training == alone[49], "as if all clips were of the largest"
    assert [plan.work for plan in unknown.buckets] == [large, small]
    mixed = plan_run(large, gpu(), steps=100, smaller=[small], counts=[1, 3]).training
    assert mixed.gib == alone[49].gib
    assert mixed.seconds_per_step == pytest.approx(
        (alone[49].seconds_per_step + 3 * alone[25].seconds_per_step) / 4
    )
    tiny = replace(WAN21, frames=5)
    counted = plan_run(large, gpu(), smaller=[tiny], counts=[1, 1]).training
    assert (counted.memory_confidence, counted.confidence) == ("Measured", "Extrapolated")
    absent = plan_run(large, gpu(), smaller=[tiny], counts=[1, 0]).training
    assert absent.confidence == "Measured", "no clip is of it"


def test_remedies_hold_for_every_bucket() -> None:
    near = replace(WAN21, width=720, height=1280, frames=77)
    wide = replace(WAN21, width=1920, height=1088, frames=25)
    assert not plan_training(replace(wide, frames=65), gpu()).fits, "it is not to be lengthened"
    assert remedies(WAN21, gpu(), DEFAULTS, [near, wide]) == [
        "gradientCheckpointing: Offload",
        "basePrecision: FP8",
        "parallelism.gpusPerNode: 2",
        "at most 65 frames",
        "buckets without 1280x720x81, 720x1280x77",
        "a GPU of type H100-NVL-94GB",
    ]
    assert "buckets" not in " ".join(remedies(WAN21, gpu(), DEFAULTS, [near]))


def test_a_run_costs_its_hours() -> None:
    work = replace(WAN21, frames=25)
    plan = plan_run(work, gpu(), experts=2, steps=100, videos=0)
    assert plan.hours == pytest.approx(200 * plan.training.seconds_per_step / 3600)
    assert plan.cost == pytest.approx((plan.hours or 0) * gpu().price_per_hour)
    together = plan_run(work, gpu(), experts=2, at_once=2, steps=100)
    assert together.hours == pytest.approx((plan.hours or 0) / 2)
    assert together.cost == pytest.approx(plan.cost), "on twice the GPUs"
    with_samples = plan_run(work, gpu(), experts=2, steps=100, videos=2)
    assert with_samples.sample_seconds > 0
    assert (with_samples.hours or 0) > (plan.hours or 0)
    shown = plan_run(work, gpu(), experts=2, steps=100, videos=2, preview_every=40)
    assert shown.sample_seconds == pytest.approx(2 * with_samples.sample_seconds), "two previews"
    assert plan_run(work, None, steps=100).hours is None
    assert plan_run(work, gpu()).hours is None


def test_checkpoints_cost_their_share_of_the_time() -> None:
    size = replace(WAN21, method="full").checkpoint_bytes
    steps = checkpoint_interval(size, seconds_per_step=50)
    saving = size / STORE_GB_PER_SECOND / 1e9
    assert saving <= CHECKPOINT_SHARE * 50 * steps
    assert saving > CHECKPOINT_SHARE * 50 * (steps - 1)


def test_host_memory_and_scratch_follow_what_a_step_holds() -> None:
    pair = replace(WAN21, preset="Wan2.2-I2V-A14B")

    def gib(work: Training, step: Step) -> float:
        return plan_host(work, step, fetches_model=False, clips=100).gib

    assert gib(pair, Step.SAMPLE) > gib(WAN21, Step.SAMPLE), "two transformers wait"
    assert gib(WAN21, Step.ENCODE) < gib(WAN21, Step.TRAIN)
    full = replace(WAN21, method="full")
    assert 75 < gib(full, Step.TRAIN) < 90, "61 in float32 once; the checkpoint goes in pieces"
    exported = plan_host(full, Step.EXPORT, fetches_model=False, clips=0)
    assert exported.scratch_gib > 6 * full.trainable / 2**30, "as trained and as written"
    assert exported.gib < 30, "a shard at a time"
    assert gib(replace(WAN21, rank=512), Step.EXPORT) > gib(WAN21, Step.EXPORT)
    many = plan_host(WAN21, Step.TRAIN, fetches_model=False, clips=5000)
    assert 100 < many.scratch["latents"] < 160
    full = replace(pair, method="full")
    three = plan_host(full, Step.EXPORT, fetches_model=False, clips=100, formats=3)
    assert 265 < three.scratch_gib < 280, "two experts of 14.3e9, each in 4 + 3 x 2 bytes"
    assert three.gib < 30
    with pytest.raises(ValueError, match="holds no model"):
        plan_host(WAN21, Step.PREPARE, fetches_model=False, clips=1)


def test_a_pod_fetches_the_parts_of_the_base_model_that_its_step_loads() -> None:
    """In GB, by the sizes of the releases."""
    for preset, step, previews, expected in (
        ("Wan2.2-I2V-A14B", Step.TRAIN, False, 57.2),  # one expert; all of it is 126.2
        ("Wan2.2-I2V-A14B", Step.TRAIN, True, 57.7),  # and the VAE
        ("Wan2.2-I2V-A14B", Step.ENCODE, False, 11.9),
        ("Wan2.2-I2V-A14B", Step.SAMPLE, False, 126.2),
        ("Wan2.1-I2V-14B-720P", Step.TRAIN, False, 65.6),
        ("Wan2.1-I2V-14B-720P", Step.ENCODE, False, 16.7),  # with CLIP
        ("Wan2.1-I2V-14B-720P", Step.SAMPLE, False, 82.3),
    ):
        work = replace(WAN21, preset=preset)
        fetched, mounted = (
            plan_host(work, step, fetches_model=fetches, clips=100, previews=previews)
            for fetches in (True, False)
        )
        gigabytes = (fetched.scratch_gib - mounted.scratch_gib) * 2**30 / 1e9
        assert gigabytes == pytest.approx(expected, abs=0.06), (preset, step)


def test_sizes_that_wan_cannot_hold_are_refused_by_name() -> None:
    assert tokens_of(81, 1280, 720) == 75_600
    for size, field in (
        ((80, 1280, 720), "frames"),
        ((81, 1270, 720), "width"),
        ((81, 1280, 0), "height"),
    ):
        with pytest.raises(ValueError, match=field):
            tokens_of(*size)
    with pytest.raises(ValueError, match="frames"):
        replace(WAN21, frames=82)
    with pytest.raises(ValueError, match="Tiny"):
        architecture_of("Wan2.1-I2V-Tiny")


def test_the_catalogue_is_replaced_by_name_and_product() -> None:
    entry = (
        '[{"name": "ours", "products": ["NVIDIA-L40S"], "memoryGib": 44, "bf16Tflops": 300,'
        ' "bandwidthGbs": 800, "pricePerHour": 0.5}]'
    )
    catalogue = parse_catalogue(entry)
    assert by_product("NVIDIA-L40S", catalogue) == by_name("ours", catalogue)
    assert by_name("L40S-48GB", catalogue) is None
    assert len(catalogue) == len(DEFAULTS)
    for wrong, named in (
        ("{}", "gpuCatalogue: must be a list"),
        ('[{"name": "x"}]', r"gpuCatalogue\[0\].memoryGib: is missing"),
        (entry.replace("300", "-1"), "bf16Tflops"),
        (entry.replace('"name"', '"nmae"'), "nmae"),
        (f"[{entry[1:-1]}, {entry[1:-1]}]", "ours stands twice"),
    ):
        with pytest.raises(ValueError, match=named):
            parse_catalogue(wrong)
    parse_catalogue("[" + ", ".join(gpu.model_dump_json(by_alias=True) for gpu in DEFAULTS) + "]")


def test_the_documented_table_is_the_current_one() -> None:
    lines = [
        f"| `{each.row.id}` | {each.quantity} | {each.measured:.4g} | {each.predicted:.2f} "
        f"| {each.error:+.1%} |"
        for each in leave_one_out(measured())
    ]
    assert "\n".join(lines) in (ROOT / "docs" / "planner.md").read_text()
