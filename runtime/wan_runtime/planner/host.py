"""Host memory and scratch space of the pods. Counted, not measured: the band is wide."""

from __future__ import annotations

from dataclasses import dataclass

from wan_runtime.contract.steps import Expert, Step
from wan_runtime.model_parts import loaded_by
from wan_runtime.planner.architecture import (
    IMAGE_ENCODER_PARAMETERS,
    TEXT_ENCODER_PARAMETERS,
    VAE_PARAMETERS,
    cached_clip_bytes,
    loaded_bytes,
    released_bytes,
)
from wan_runtime.planner.spread import offloaded_gib
from wan_runtime.planner.terms import host_gib
from wan_runtime.planner.workload import GIB, Serving, Terms, Training
from wan_runtime.presets import PRESETS

PROCESS_GIB = 6.0
"""Python, torch, the CUDA driver's share, and buffers of transfers."""
BAND = 0.4
SCRATCH_GIB = 10.0
"""A clip that is being read, results before they are sent, logs."""
PIECES_BYTES = 10e9
"""Bytes of a checkpoint or of full weights that exist at a time: they go to the store in files."""

ADAPTERS_GIB = 8.0
"""Limit on the adapters that a serving rank keeps in host memory, in GiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostPlan:
    memory: Terms
    """GiB of one pod."""
    scratch: Terms
    """GiB of its scratch volume."""

    @property
    def gib(self) -> float:
        return sum(self.memory.values())

    @property
    def scratch_gib(self) -> float:
        return sum(self.scratch.values())


def gib_to_train(work: Training) -> float:
    """Host memory of a node's pod that trains."""
    return plan_host(work, Step.TRAIN, fetches_model=False, clips=1).gib


def plan_host(
    work: Training,
    step: Step,
    *,
    fetches_model: bool,
    clips: int,
    starts_from: bool = False,
    formats: int = 1,
    previews: bool = False,
) -> HostPlan:
    """Plan for the pod of a step that holds a model or its trained weights.

    Args:
        fetches_model: whether what the step loads of the base model comes from the store into the
            scratch volume.
        clips: number of clips that are trained on.
        starts_from: whether training starts from weights in the store (`initFrom`).
        formats: number of formats that the weights are exported in.
        previews: whether training renders previews.
    """
    scratch = {"working files": SCRATCH_GIB}
    if fetches_model:
        # One of a pair may be either: they are of one size.
        expert = Expert.ONLY if work.experts > 1 else PRESETS[work.preset].experts[0]
        loaded = loaded_by(step, work.preset, expert, previews=previews)
        scratch["base model, as released"] = released_bytes(work.preset, loaded) / GIB
    if step is Step.TRAIN:
        size = cached_clip_bytes(work.frames, work.width, work.height)
        scratch["latents"] = clips * size / GIB
        # Gone before the first checkpoint. In float32 at most, as a train step commits them.
        initial = 4.0 * work.trainable if starts_from else 0.0
        saved = min(work.checkpoint_bytes, PIECES_BYTES)
        scratch["weights to start from, then checkpoints"] = max(initial, saved) / GIB
    if step is Step.EXPORT:
        # Float32 as trained, and written again for each format: full weights in bfloat16.
        written = 2.0 if work.method == "full" else 4.0
        weights = work.trainable * _experts(work)
        scratch["trained weights"] = (4.0 + formats * written) * weights / GIB
    if step is Step.SAMPLE:
        copies = 2.0 if work.method == "full" else 4.0
        scratch["trained weights"] = copies * work.trainable * _experts(work) / GIB
    return HostPlan(memory=_memory(work, step), scratch=scratch)


def _memory(work: Training, step: Step) -> Terms:
    terms = {"process": PROCESS_GIB}
    encoders = _encoders_bytes(work.preset)
    match step:
        case Step.TRAIN:
            weights = work.bytes_a_weight * work.architecture.parameters
            terms["weights on their way to the GPU"] = weights / GIB
            terms["kept for the backward pass"] = host_gib(work)
            terms["checkpoint on its way"] = min(work.checkpoint_bytes, PIECES_BYTES) / GIB
            here = {name: gib * work.spread.gpus_per_node for name, gib in terms.items()}
            offloaded = offloaded_gib(work)
            return here | ({"offloaded by ZeRO": offloaded} if offloaded else {})
        case Step.ENCODE:
            terms["encoders on their way to the GPU"] = encoders / GIB
            terms["a decoded clip"] = 12.0 * work.frames * work.width * work.height / GIB
        case Step.SAMPLE:
            # Every part waits in host memory while another is at work.
            terms["transformers"] = sum(loaded_bytes(work.preset)) / GIB
            terms["encoders and VAE"] = (encoders + 2.0 * VAE_PARAMETERS) / GIB
            terms["rendered clips"] = 24.0 * work.frames * work.width * work.height / GIB
        case Step.EXPORT:
            # A shard, or the adapter, as trained, as written and as read back.
            terms["trained weights"] = min(12.0 * work.trainable, 2 * PIECES_BYTES) / GIB
        case _:
            raise ValueError(f"{step} holds no model")
    return terms


def _encoders_bytes(preset: str) -> float:
    image = IMAGE_ENCODER_PARAMETERS if PRESETS[preset].uses_clip else 0.0
    return 2.0 * (TEXT_ENCODER_PARAMETERS + image)


def _experts(work: Training) -> int:
    return len(PRESETS[work.preset].experts)


def plan_worker(work: Serving, *, fetches_model: bool) -> HostPlan:
    """Plan for the pod of a serving worker with `work.gpus` ranks. Each rank holds what it loads;
    rank 0 also holds the encoders and the frames."""
    pixels = work.frames * work.width * work.height
    scratch = {"working files": SCRATCH_GIB, "frames being written": 3 * 3.0 * pixels / GIB}
    if fetches_model:
        loaded = loaded_by(Step.SAMPLE, work.preset)
        scratch["base model, as released"] = released_bytes(work.preset, loaded) / GIB
    memory = {
        "processes": PROCESS_GIB * work.gpus,
        "transformers": work.gpus * sum(loaded_bytes(work.preset)) / GIB,
        "encoders and VAE": (_encoders_bytes(work.preset) + 2.0 * VAE_PARAMETERS) / GIB,
        "a rendered video": 24.0 * pixels / GIB,
        "adapters": ADAPTERS_GIB * work.gpus,
    }
    return HostPlan(memory=memory, scratch=scratch)
