"""What a video takes with each profile: a row for each, beside the terms that all rows gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from wan_runtime.contract.sampling import Profile
from wan_runtime.planner.calibration import Rates, calibration, clip_of
from wan_runtime.planner.gpus import Gpu, is_hopper, measured_gpu
from wan_runtime.planner.rows import Measured, Row, measured
from wan_runtime.planner.terms import elementwise_seconds, kernel_seconds, resident_gib
from wan_runtime.planner.workload import GIB, Clip


@dataclass(frozen=True, slots=True)
class Taken:
    """What a pass of the transformer and the VAE's decoder take with one profile."""

    share: float
    """Time of a pass over that of diffsynth's by its terms, on the GPU that these are of."""
    live: float
    """Activations that a pass holds, in u."""
    decode_seconds: float
    """Seconds for each token of the clip, on the same GPU."""
    decode_bytes: float
    """For each token of the clip."""


@cache
def taken() -> Mapping[Profile, Taken]:
    """From the whole table."""
    return taken_of(measured(), calibration().rates)


def taken_of(table: Measured, rates: Rates) -> dict[Profile, Taken]:
    """From the rows. Where a profile has no row for memory, or for the decoder, it is Lossless'.

    Raises ValueError if there is no row for one of the numbers."""
    (forward,), (decode,) = table.calibrating("Forward"), table.calibrating("Decode")
    passes, decoders = table.profiles("Forward"), table.profiles("Decode")
    found: dict[Profile, Taken] = {"Exact": Taken(1.0, _live(forward), *_decode(decode))}
    for profile, row in passes.items():
        assert row.seconds is not None
        found[profile] = Taken(
            row.seconds / plain_seconds(clip_of(row), measured_gpu(), rates),
            _live(row if row.allocated_gib is not None else passes["Lossless"]),
            *_decode(decoders.get(profile, decoders["Lossless"])),
        )
    return found


def plain_seconds(clip: Clip, gpu: Gpu, rates: Rates) -> float:
    """Seconds of a pass of diffsynth's transformer."""
    kernels = sum(kernel_seconds(clip, gpu, rates.efficiency).values())
    return kernels + elementwise_seconds(clip, gpu, rates.passes)


def profile_on(profile: Profile, gpu: Gpu) -> Profile:
    """Arithmetic that a profile comes to: on GPUs without attention in 8 bits, what Fast's linear
    layers save is not known."""
    return profile if profile == "Exact" or is_hopper(gpu) else "Lossless"


def _live(row: Row) -> float:
    clip = clip_of(row)
    assert row.allocated_gib is not None
    weights = sum(resident_gib(clip).values())
    unit = clip.architecture.activation_bytes(clip.tokens) / GIB
    return (row.allocated_gib - weights) / unit


def _decode(row: Row) -> tuple[float, float]:
    assert row.seconds is not None
    assert row.allocated_gib is not None
    tokens = clip_of(row).tokens
    return row.seconds / tokens, row.allocated_gib * GIB / tokens
