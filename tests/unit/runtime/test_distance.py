"""Distances of profiles: one table, of which documents and statuses have what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_runtime.contract.sampling import Profile, StepCachePolicy
from wan_runtime.planner import distance
from wan_runtime.planner.distance import Distance, Part, Row, distance_of, distances
from wan_runtime.presets import PRESETS

DOCS = Path(__file__).parents[3] / "docs"
TINY = ("Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny")
LARGE = PRESETS["Wan2.2-I2V-A14B"]


def line(row: Row) -> str:
    """As the table of measurements has it."""
    gmsd = "-" if row.gmsd is None else f"{row.gmsd:.5f}"
    vmaf = "-" if row.vmaf is None else f"{row.vmaf:.1f}"
    return (
        f"| {row.profile}, {row.step_cache or 'every step'} | {row.passes:g} "
        f"| {distances().floors(row):g} | {row.psnr:.1f} dB | {row.lowest_psnr:.1f} "
        f"| {row.ssim:.4f} | {gmsd} | {vmaf} | {row.most_levels:g} | {row.flicker:.3f} |"
    )


def test_the_measurements_page_has_the_table() -> None:
    page = (DOCS / "measurements-gpu.md").read_text()
    section = page.partition("\n## A video by profile\n")[2].partition("\n## ")[0]
    there = [each for each in section.splitlines() if each.startswith("| ")]
    tables = [
        (part, model)
        for part in (distances().kernels, distances().skipped, distances().together)
        for model in TINY
    ]
    wanted = [
        text
        for part, model in tables
        for text in (
            f"| {model} | passes | distance | PSNR, mean | lowest | SSIM | GMSD | VMAF "
            "| largest difference, of 256 levels | flicker |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(line(row) for row in part.rows if row.model == model),
        )
    ]
    assert there == wanted


def test_the_serving_page_has_its_ends() -> None:
    page = (DOCS / "serving.md").read_text()
    table, found = distances(), []

    def ends(part: Part, profile: Profile, policy: StepCachePolicy | None = None) -> str:
        rows = [table.row(part, model, profile, policy) for model in TINY]
        least, most = sorted(table.floors(row) for row in rows if row is not None)
        return f"{least:g}" if least == most else f"{least:g} to {most:g}"

    kernels = [ends(table.kernels, each) for each in ("Fast", "Balanced", "Exact")]
    found.append("by rounding alone, in multiples of `Exact`'s | {} | {} | | {} |".format(*kernels))
    skipped = [ends(table.skipped, each, "Spaced") for each in ("Fast", "Balanced")]
    found.append("by the steps alone that `Spaced` leaves out | {} | {} | | |".format(*skipped))
    assert [each for each in found if each not in page] == []


@pytest.mark.parametrize(
    ("preset", "profile", "policy", "steps", "known"),
    [
        ("Wan2.1-I2V-14B-720P", "Fast", "TeaCache", 40, Distance(TINY[0], 2.3, 0.1)),
        ("Wan2.1-I2V-14B-480P", "Balanced", "Spaced", 40, Distance(TINY[0], 1.6, 0.2)),
        ("Wan2.2-I2V-A14B", "Fast", "Spaced", 40, Distance(TINY[1], 2.2, 0.5)),
        ("Wan2.2-I2V-A14B", "Balanced", "EasyCache", 40, Distance(TINY[1], 1.7, None)),
        ("Wan2.2-I2V-A14B", "Fast", "Spaced", 16, Distance(TINY[1], 2.2, None)),
        ("Wan2.2-I2V-A14B", "Exact", "Spaced", 40, Distance(TINY[1], 1.0, None)),
        ("Wan2.2-I2V-A14B", "Lossless", "Spaced", 40, None),
        ("Wan2.2-I2V-A14B", "Fast", "TeaCache", 40, None),
    ],
)
def test_a_distance_is_what_was_measured(
    preset: str, profile: Profile, policy: StepCachePolicy, steps: int, known: Distance | None
) -> None:
    assert distance_of(PRESETS[preset], profile, policy, steps) == known


def test_a_rule_that_was_not_measured_has_no_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    table = distances()
    rest = tuple(row for row in table.skipped.rows if row.step_cache != "Spaced")
    without = table.model_copy(update={"skipped": Part(source="", rows=rest)})
    monkeypatch.setattr(distance, "distances", lambda: without)
    assert distance_of(LARGE, "Fast", "Spaced", 40) is None
    assert distance_of(LARGE, "Fast", "EasyCache", 40) is not None


def test_every_preset_has_a_tiny_model_that_was_measured() -> None:
    for preset in PRESETS.values():
        assert distance_of(preset, "Balanced", "Spaced", preset.inference_steps) is not None
