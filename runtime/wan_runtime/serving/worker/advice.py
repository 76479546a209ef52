"""What would fit, where a video did not. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wan_runtime.contract.service import Profile, Size
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_device
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving
from wan_runtime.presets import Preset
from wan_runtime.rendering.order import VideoOrder

FEWEST_FRAMES = 5


def advice(
    order: VideoOrder, preset: Preset, sizes: Sequence[Size], device: str, own: Profile, ranks: int
) -> str:
    """The smallest changes, each alone, with which the planner says that the video fits.

    Args:
        device: as torch names the GPU.
        own: profile of the worker, by which its transformers were loaded.
    """
    gpu = by_device(device)
    if gpu is None:
        return "ask for fewer frames or a smaller size"
    work = Serving(
        preset=preset.name,
        frames=order.frames,
        width=order.size.width,
        height=order.size.height,
        steps=order.steps,
        guided=order.guided,
        gpus=ranks,
        profile=order.profile_on(own),
    )

    def fit_with(on: Gpu = gpu, **change: Any) -> bool:
        return plan_serving(replace(work, **change), on).fits

    if fit_with():
        return (
            f"by the planner it fits a GPU of type {gpu.name}: something else holds its memory, or "
            "the planner is wrong here; ask for fewer frames or a smaller size"
        )
    found = []
    lengths = range(order.frames - 4, FEWEST_FRAMES - 1, -4)
    shorter = next((frames for frames in lengths if fit_with(frames=frames)), None)
    if shorter is not None:
        found.append(f"{shorter} frames")
    area = order.size.width * order.size.height
    smaller = [
        size
        for size in sizes
        if size.width * size.height < area and fit_with(width=size.width, height=size.height)
    ]
    if smaller:
        found.append(f"size {max(smaller, key=lambda size: size.width * size.height)}")
    larger = [other for other in DEFAULTS if other.memory_gib > gpu.memory_gib and fit_with(other)]
    if larger:
        found.append(f"a GPU of type {min(larger, key=lambda each: each.memory_gib).name}")
    return f"by the planner, what would fit: {' or '.join(found) or 'nothing of this service'}"
