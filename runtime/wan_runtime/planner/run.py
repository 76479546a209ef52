"""A whole run: hours and cost of training and of rendering previews and samples.

Encoding and the start of pods are not in it: they have not been measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.serving import ServingPlan, is_guided, plan_serving
from wan_runtime.planner.training import TrainingPlan, mixed, plan_training
from wan_runtime.planner.workload import Serving, Training


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    training: TrainingPlan
    """Plan of one expert; the other's is the same. Memory is that of the largest bucket."""
    buckets: tuple[TrainingPlan, ...]
    """As if all clips were of one, the largest first."""
    experts: int
    """Trainings, one for each expert; one for both where one Job trains them."""
    at_once: int
    """Experts that train beside each other, each on GPUs of its own."""
    steps: int | None
    """Optimizer steps of one expert; of both, where one Job trains them. None: the number of clips
    is not known yet."""
    sampling: ServingPlan | None
    """Plan of one video of the largest bucket; None for an unknown GPU."""
    videos: int
    """Samples, rendered after training."""
    preview_every: int | None
    """Steps between previews while training. An expert of a pair renders its share of one."""

    @property
    def sample_seconds(self) -> float:
        """Seconds of rendering previews and samples; 0 without a plan of `sampling`."""
        previews = (self.steps or 0) // self.preview_every if self.preview_every else 0
        return (
            0.0
            if self.sampling is None
            else ((previews + self.videos) * self.sampling.seconds_per_clip)
        )

    @property
    def training_seconds(self) -> float | None:
        """Until all experts are trained; None without steps or for an unknown GPU."""
        if self.steps is None or self.training.gpu is None:
            return None
        rounds = -(-self.experts // self.at_once)
        return rounds * self.steps * self.training.seconds_per_step

    @property
    def hours(self) -> float | None:
        """Hours of training and samples together; None where training's are not known."""
        training = self.training_seconds
        return None if training is None else (training + self.sample_seconds) / 3600

    @property
    def time_band(self) -> float:
        """Relative error of the hours and the cost."""
        training, samples = self.training_seconds or 0.0, self.sample_seconds
        if self.sampling is None or not training:
            return self.training.time_band
        weighted = training * self.training.time_band + samples * self.sampling.time_band
        return weighted / (training + samples)

    @property
    def cost(self) -> float | None:
        """In the catalogue's currency."""
        gpu, steps, training = self.training.gpu, self.steps, self.training
        if gpu is None or steps is None:
            return None
        trained = self.experts * steps * training.seconds_per_step * training.work.gpus
        return (trained + self.sample_seconds) / 3600 * gpu.price_per_hour


def plan_run(
    work: Training,
    gpu: Gpu | None,
    *,
    experts: int = 1,
    at_once: int = 1,
    steps: int | None = None,
    videos: int = 0,
    preview_every: int | None = None,
    inference_steps: int = 40,
    smaller: Sequence[Training] = (),
    counts: Sequence[int] = (),
) -> RunPlan:
    """`videos`: rendered after training, base and tuned ones together. `smaller`: buckets beside
    that of `work`. `counts`: clips of each bucket, `work`'s first; none while they are not known.
    """
    buckets = tuple(plan_training(each, gpu) for each in (work, *smaller))
    sampling = None
    if gpu is not None:
        clip = Serving(
            preset=work.preset, frames=work.frames, width=work.width, height=work.height,
            steps=inference_steps, guided=is_guided(work.preset), profile="Exact",
        )  # fmt: skip
        sampling = plan_serving(clip, gpu)
    return RunPlan(
        training=mixed(buckets, counts),
        buckets=buckets,
        experts=experts,
        at_once=at_once,
        steps=steps,
        sampling=sampling,
        videos=videos,
        preview_every=preview_every,
    )
