"""A plan of one rendered clip: GPU memory and seconds, term by term."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wan_runtime.planner import bands
from wan_runtime.planner.architecture import loaded_bytes
from wan_runtime.planner.calibration import calibration, clip_of
from wan_runtime.planner.gpus import Gpu, measured_gpu
from wan_runtime.planner.placement import ROOM, placement
from wan_runtime.planner.profiles import plain_seconds, profile_on, taken
from wan_runtime.planner.rows import Scaling, measured
from wan_runtime.planner.spread import NODE_LINK, bytes_a_pass
from wan_runtime.planner.terms import resident_gib
from wan_runtime.planner.verdict import Verdict, verdict
from wan_runtime.planner.workload import GIB, Confidence, Serving, Terms
from wan_runtime.presets import PRESETS


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPlan:
    work: Serving
    gpu: Gpu
    memory: Terms
    """GiB of one GPU. T5 and CLIP wait in host memory, and the other expert of Wan2.2 where there
    is no room for both."""
    seconds: Terms
    """Seconds of one clip, without those of text and first frame, which have not been measured."""
    confidence: Confidence

    @property
    def gib(self) -> float:
        return sum(self.memory.values())

    @property
    def gib_range(self) -> tuple[float, float]:
        band = bands.band(self.confidence, "GiB")
        return self.gib * (1 - band), self.gib * (1 + band)

    @property
    def seconds_per_clip(self) -> float:
        return sum(self.seconds.values())

    @property
    def time_band(self) -> float:
        """Relative error of the seconds."""
        return bands.band(self.confidence, "seconds")

    @property
    def fits(self) -> bool:
        return self.gib <= self.gpu.memory_gib

    @property
    def verdict(self) -> Verdict:
        return verdict(self.gib, self.gib_range, self.gpu)


def plan_serving(work: Serving, gpu: Gpu) -> ServingPlan:
    known = taken()[profile_on(work.profile, gpu)]
    # An H200 has an H100's limit of power, at which more bandwidth saves no time.
    timed = measured_gpu() if gpu.name in bands.ONE_CHIP else gpu
    forward = known.share * plain_seconds(work, timed, calibration().rates)
    steps = work.steps if work.computed is None else work.computed
    passes = steps * (2 if work.guided else 1)
    unit = work.architecture.activation_bytes(work.tokens) / GIB
    decoding = known.decode_seconds * work.tokens * measured_gpu().bf16_tflops / gpu.bf16_tflops
    allocator = measured().allocator
    return ServingPlan(
        work=work,
        gpu=gpu,
        memory={
            **weights_gib(work, gpu),
            # Those of the decoder come when the transformer's are gone.
            "activations": max(
                known.live * unit / sharing_tokens(work),
                known.decode_bytes * work.tokens / decoders(work) / GIB,
            ),
            "fragmentation": allocator.fragmentation_gib,
            "CUDA context": allocator.context_gib,
        },
        seconds={
            **shared_seconds(work, passes, forward),
            "VAE decode": decoding / decoders_speedup(work, measured().scaling),
        },
        confidence=bands.of_serving(work, gpu),
    )


def weights_gib(work: Serving, gpu: Gpu) -> Terms:
    """Weights on the GPU: of all transformers, of one, or what is there of those that are
    streamed."""
    shape, sizes = work.architecture, loaded_bytes(work.preset)
    chosen = placement(sizes, gpu.memory_gib * GIB, exact=work.profile == "Exact")
    if chosen == "Turns":
        return resident_gib(work)
    if chosen == "Resident":
        return {"base weights": sum(sizes) / GIB}
    # What is not in blocks, most of it in float32, and the room for two of these.
    others = shape.parameters - shape.layers * shape.block_parameters
    return {
        "base weights": len(sizes) * 4.0 * others / GIB,
        "streamed blocks": ROOM * 2.0 * shape.block_parameters / GIB,
    }


def shared_seconds(work: Serving, passes: float, forward: float) -> Terms:
    """Seconds of the transformer on `work.gpus` GPUs, of `passes` that take `forward` on one.

    With guidance, each half of the GPUs computes one of the two passes of a step. All GPUs wait for
    the slowest, which is what a step with guidance loses on two GPUs: nothing else is exchanged
    there. Those that share the tokens of a pass exchange them at the rate that was measured on two.
    """
    if work.gpus == 1:
        return {"transformer": passes * forward}
    scaling, sharing = measured().scaling, sharing_tokens(work)
    slowest = 2 / scaling.cfg_parallel
    each = passes / (2 if work.guided else 1)
    terms = {"transformer": each * slowest * forward / sharing}
    if sharing > 1:
        terms["exchange of tokens"] = each * bytes_a_pass(work, sharing) / token_link(scaling)
    return terms


def sharing_tokens(work: Serving) -> int:
    """GPUs that share the tokens of a pass."""
    return max(1, work.gpus // (2 if work.guided else 1))


def token_link(scaling: Scaling) -> float:
    """Bytes of activations that a GPU exchanges a second, with the copies around it: from a pass
    that two GPUs shared, less what it takes on the slower one."""
    row = measured().profiles("Forward")["Lossless"]
    assert row.seconds is not None
    took = row.seconds * (1 / scaling.ulysses - 1 / scaling.cfg_parallel)
    sent = bytes_a_pass(clip_of(row), 2)
    return sent / max(took, sent / NODE_LINK)


def decoders_speedup(work: Serving, scaling: Scaling) -> float:
    """Speedup of the VAE's decoder. Each doubling is taken to gain as much as the first."""
    return math.pow(scaling.decode, math.log2(decoders(work)))


def decoders(work: Serving) -> int:
    """GPUs that decode a video, each a band of its rows; with Exact one decodes it whole."""
    return 1 if work.profile == "Exact" else work.gpus


def is_guided(preset: str) -> bool:
    """Whether the preset's own sampling uses guidance."""
    return PRESETS[preset].guidance != 1.0
