"""Host memory and scratch space of the pods. Counted, not measured: the band is wide."""

from __future__ import annotations

from dataclasses import dataclass

from wan_runtime.job import Step
from wan_runtime.planner.architecture import (
    IMAGE_ENCODER_PARAMETERS,
    TEXT_ENCODER_PARAMETERS,
    VAE_PARAMETERS,
    cached_clip_bytes,
    released_bytes,
)
from wan_runtime.planner.terms import GIB
from wan_runtime.planner.workload import Terms, Training
from wan_runtime.presets import PRESETS

PROCESS_GIB = 6.0
"""Python, torch, the CUDA driver's share, and buffers of transfers."""
BAND = 0.4
SCRATCH_GIB = 10.0
"""A clip that is being read, results before they are sent, logs."""
CHECKPOINTS_KEPT = 2
"""In the scratch volume: the one being sent and the one that the run came from."""


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


def plan_host(work: Training, step: Step, *, fetches_model: bool, clips: int) -> HostPlan:
    """Of the pod of a step that holds a model.

    Args:
        fetches_model: whether the base model comes from the store into the scratch volume.
        clips: that are trained on.
    """
    scratch = {"working files": SCRATCH_GIB}
    if fetches_model:
        scratch["base model, as released"] = released_bytes(work.preset) / GIB
    if step is Step.TRAIN:
        size = cached_clip_bytes(work.frames, work.width, work.height)
        scratch["latents"] = clips * size / GIB
        scratch["checkpoints"] = CHECKPOINTS_KEPT * work.checkpoint_bytes / GIB
    if step is Step.SAMPLE and work.method == "full":
        scratch["trained weights"] = _weights(work) / GIB
    return HostPlan(memory=_memory(work, step), scratch=scratch)


def _memory(work: Training, step: Step) -> Terms:
    terms = {"process": PROCESS_GIB}
    encoders = 2.0 * TEXT_ENCODER_PARAMETERS
    if PRESETS[work.preset].uses_clip:
        encoders += 2.0 * IMAGE_ENCODER_PARAMETERS
    match step:
        case Step.TRAIN:
            bytes_each = 4.0 if work.method == "full" else 2.0
            parameters = work.architecture.parameters
            terms["weights on their way to the GPU"] = bytes_each * parameters / GIB
            terms["checkpoint being written"] = work.checkpoint_bytes / GIB
            return {name: gib * work.gpus for name, gib in terms.items()}
        case Step.ENCODE:
            terms["encoders on their way to the GPU"] = encoders / GIB
            terms["a decoded clip"] = 12.0 * work.frames * work.width * work.height / GIB
        case Step.SAMPLE:
            # Every part waits in host memory while another is at work.
            terms["transformers"] = _weights(work) / GIB
            terms["encoders and VAE"] = (encoders + 2.0 * VAE_PARAMETERS) / GIB
            terms["rendered clips"] = 24.0 * work.frames * work.width * work.height / GIB
        case _:
            raise ValueError(f"{step} holds no model")
    return terms


def _weights(work: Training) -> float:
    return 2.0 * work.architecture.parameters * len(PRESETS[work.preset].experts)
