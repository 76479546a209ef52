"""Distances of the profiles' videos from those of Lossless, from the rows of distances.json.

Measured on the trained Tiny models: on the weights of 14B they are not. There are two distances,
each of one cause alone, and rows of both at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from wan_runtime.contract.sampling import Profile, StepCachePolicy, computed_steps
from wan_runtime.presets import Preset


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Row(_Model):
    """Videos of one model and profile beside those of Lossless with the same seeds, as
    tests/gpu/quality.py compares them: means of all seeds unless a field says otherwise."""

    model: str
    """Name of a Tiny preset."""
    profile: Profile
    step_cache: StepCachePolicy | None = None
    """None: every step was computed."""
    passes: float
    """Passes of a transformer for a video."""
    rms: float
    """Root mean square of the differences, in levels of 256."""
    psnr: float
    lowest_psnr: float
    """Lowest of a seed, in dB."""
    ssim: float
    gmsd: float | None = None
    """Gradient magnitude similarity deviation: 0 for equal pictures. None: not measured."""
    vmaf: float | None = None
    """A video of these beside itself has about 99.7. None: not measured."""
    most_levels: float
    """Largest difference of a pixel's channel, in levels of 256."""
    flicker: float
    """Mean change between frames, over that of Lossless."""


class Part(_Model):
    """Rows of one run, or of runs on one device."""

    source: str
    rows: tuple[Row, ...]


class Distances(_Model):
    kernels: Part
    """Rows by rounding alone, with every step computed. Exact's are the floor."""
    skipped: Part
    """Rows by leaving out steps alone, in float32, in which all profiles compute alike."""
    together: Part
    """Rows by both causes at once, as services render."""

    def floor(self, model: str) -> float:
        """Distance between two ways to round to bfloat16, in levels of 256."""
        row = self.row(self.kernels, model, "Exact")
        assert row is not None
        return row.rms

    def row(
        self, part: Part, model: str, profile: Profile, policy: StepCachePolicy | None = None
    ) -> Row | None:
        """The row of a part that was measured so; None: there is none."""
        wanted = (model, profile, policy)
        return next((r for r in part.rows if (r.model, r.profile, r.step_cache) == wanted), None)

    def floors(self, row: Row) -> float:
        """A row's distance as a multiple of the floor, to a tenth."""
        return round(row.rms / self.floor(row.model), 1)


@dataclass(frozen=True, slots=True)
class Distance:
    """Multiples of the floor, each of one cause alone."""

    model: str
    """Tiny preset that was measured."""
    kernels: float
    skipped: float | None
    """None: every step is computed."""


@cache
def distances() -> Distances:
    """The content of distances.json."""
    file = resources.files("wan_runtime.planner").joinpath("distances.json")
    return Distances.model_validate_json(file.read_text())


def distance_of(
    preset: Preset, profile: Profile, policy: StepCachePolicy, steps: int
) -> Distance | None:
    """Distance of a profile and step cache, as measured on the Tiny model of the preset's release.

    None where a part was not measured, and for Lossless, which the others are compared with.

    Args:
        steps: of the video. With few of them, Spaced leaves none out.
    """
    table, release = distances(), preset.name.partition("-")[0]
    model = f"{release}-I2V-Tiny"
    kernels = table.row(table.kernels, model, profile)
    skips = profile == "Fast" if policy != "Spaced" else computed_steps(profile, steps) < steps
    skipped = table.row(table.skipped, model, profile, policy) if skips else None
    if kernels is None or (skips and skipped is None):
        return None
    left_out = None if skipped is None else table.floors(skipped)
    return Distance(model, table.floors(kernels), left_out)
