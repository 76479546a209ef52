"""Before ranks take requests: each of the service's sizes once, and a check of what comes out."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from PIL import Image

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import SamplingSpec, ServiceSpec, Size
from wan_runtime.errors import InputError, NumericalError, OutOfMemoryError, classify
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.planner.architecture import tokens_of
from wan_runtime.presets import Preset
from wan_runtime.rendering.order import Stage, VideoOrder
from wan_runtime.rendering.render import Renderer
from wan_runtime.rendering.times import Times
from wan_runtime.serving.worker.adapter_checks import Sample
from wan_runtime.serving.worker.messages import Pace

log = logging.getLogger(__name__)

STEPS = 2
"""Denoising steps of a warm-up video: with Wan2.2, one for each expert."""
UNGUIDED = {"guidance": 1.0, "guidance_low": 1.0}
SHORT = 5
"""Frames of the video that is made twice: a full one costs a minute at 14B."""


@dataclass(frozen=True, slots=True)
class Warm:
    """What a warm-up learned."""

    paces: dict[str, Pace]
    """Pace of each size, by its name."""
    compile_seconds: float
    """Seconds that the first, short video took longer than its repetition."""
    seconds: float
    """All else."""


def run(
    service: ServiceSpec,
    renderer: Renderer,
    work: Path,
    times: Times | None = None,
    samples: Sequence[Sample] = (),
) -> Warm:
    """Render a short video twice, once with each of the samples, then each size once. Collective.

    What a sample makes is not looked at: one that gives no pixels, or has no room, fails its own
    videos.

    Raises:
        NumericalError: on all ranks, if pixels are not finite, if the same order gives another
            video the second time, or if ranks differ.
    """
    started = time.monotonic()
    preset, defaults = renderer.model.preset, service.defaults
    short = warm_order(preset, defaults, service.sizes[0], SHORT)
    times = times or Times()
    with times.of("first short video"):
        once, taken = _render(renderer, short, work)
    with times.of("the same again"):
        again, repeated = _render(renderer, short, work)
    compiled = max(0.0, _total(taken) - _total(repeated))
    _check(renderer, once, again)
    for adapter, guided in samples:
        order = short if guided else short.model_copy(update=UNGUIDED)
        try:
            with times.of("with adapters"):
                _render(renderer, order, work, (adapter,))
        except Exception as error:
            if not _of_sample(error, renderer.ranks):
                raise
            log.warning("warm-up with the adapter %s: %s", adapter.name, error)
    paces: dict[str, Pace] = {}
    for size in service.sizes:
        with times.of(f"video of {size}"):
            latents, paces[str(size)] = _render(renderer, warm_order(preset, defaults, size), work)
        _check(renderer, latents)
    return Warm(paces, round(compiled, 1), round(time.monotonic() - started - compiled, 1))


def _of_sample(error: Exception, ranks: Ranks) -> bool:
    """Whether it is the adapter's, and was raised on all ranks: one that is out of memory by itself
    leaves the others waiting."""
    found = classify(error) if ranks.world == 1 else error
    return isinstance(found, (NumericalError, InputError, OutOfMemoryError))


def warm_order(
    preset: Preset, defaults: SamplingSpec, size: Size, frames: int | None = None
) -> VideoOrder:
    """With guidance if that is the service's default. `frames`: None: the service's own length."""
    guidance = defaults.guidance or preset.guidance
    return VideoOrder(
        prompt="warm-up",
        negative_prompt=defaults.negative_prompt or "",
        size=size,
        frames=frames or defaults.frames or preset.frames,
        fps=defaults.fps or preset.fps,
        steps=STEPS,
        guidance=guidance,
        guidance_low=defaults.guidance_low or guidance,
        shift=defaults.shift or preset.shift,
        seed=0,
        model=preset.name,
    )


def _render(
    renderer: Renderer, order: VideoOrder, work: Path, adapters: Sequence[AppliedAdapter] = ()
) -> tuple[str, Pace]:
    """Digest of the latents, and how long it took."""
    size = order.size
    picture = work / f"warm-up-{size}-{renderer.ranks.rank}.png"
    Image.linear_gradient("L").resize((size.width, size.height)).convert("RGB").save(picture)
    begun: list[float] = []

    def note(stage: Stage, step: int) -> None:
        if stage in (Stage.DENOISING, Stage.DECODING):
            begun.append(time.monotonic())

    shot = renderer.render(order, picture, adapters, progress=note)
    pace = Pace(
        tokens=tokens_of(order.frames, order.size.width, order.size.height),
        frames=order.frames,
        guided=order.guided,
        # Of a few steps the first ones, or those of another expert, may choose kernels yet.
        step_seconds=min(after - before for before, after in pairwise(begun)),
        stages=shot.seconds,
    )
    return hashlib.sha256(shot.latents.cpu().numpy().tobytes()).hexdigest(), pace


def _total(pace: Pace) -> float:
    return sum(pace.stages.values())


def _check(renderer: Renderer, *mine: str) -> None:
    """`mine`: of the same order. Collective; raises on all ranks, where any of them differs."""
    first = renderer.ranks.broadcast(mine[0])
    renderer.ranks.together(partial(_same, mine, first))


def _same(mine: Sequence[str], first: str) -> None:
    """`first`: what rank 0 made at first."""
    if len(set(mine)) > 1:
        raise NumericalError(
            Reason.NON_FINITE_LOSS,
            "the same order rendered twice gives two videos: the GPU or its kernels fail",
        )
    if mine[0] != first:
        raise NumericalError(
            Reason.NON_FINITE_LOSS, "a rank computes another video than rank 0: its GPU fails"
        )
