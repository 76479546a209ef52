"""The work of a fine-tune."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from wan_runtime.contract.base import Contract
from wan_runtime.contract.dataset import DatasetSpec
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.contract.training import FullSpec, LoraSpec, Parallelism, TrainingSpec
from wan_runtime.contract.work import Work, model_identity

if TYPE_CHECKING:
    from wan_runtime.contract.job import JobSpec


class Dialect(StrEnum):
    """The tool whose names a file of weights bears."""

    DIFFSYNTH = "DiffSynth"
    COMFYUI = "ComfyUI"
    DIFFUSERS = "Diffusers"


class SampleSpec(Contract):
    count: int = 1
    """Held-out first frames to render; 0 renders none."""
    inference_steps: int = 40
    seed: int = 0


class FineTuneWork(Work):
    """The dataset, what is trained on it, and what is made of the result."""

    kind: Literal["FineTune"] = "FineTune"
    dataset: DatasetSpec
    lora: LoraSpec | None = None
    full: FullSpec | None = None
    """What is trained: exactly one of the two."""
    starts: dict[Expert, str] | None = None
    """Addresses of the weights that experts start from, in the job that verifies them before a GPU
    is asked for, and in one that trains both."""
    training: TrainingSpec = TrainingSpec()
    sample: SampleSpec = SampleSpec()
    formats: tuple[Dialect, ...] = (Dialect.DIFFSYNTH,)
    """Formats of the exported weights."""

    steps: ClassVar[frozenset[Step]] = frozenset(
        {Step.PREPARE, Step.ENCODE, Step.TRAIN, Step.EXPORT, Step.SAMPLE}
    )

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if (self.lora is None) == (self.full is None):
            raise ValueError("exactly one of lora and full says what is trained")
        return self

    @property
    def renders_previews(self) -> bool:
        return self.training.preview_every is not None

    @property
    def parallelism(self) -> Parallelism:
        return self.training.parallelism

    def identity(self, job: JobSpec) -> dict[str, object]:
        size = {
            "fps": self.dataset.fps,
            "buckets": [each.stated() for each in self.dataset.buckets],
        }
        methods = {"lora": self.lora, "full": self.full}
        method = {name: spec.stated() for name, spec in methods.items() if spec is not None}
        model = model_identity(job)
        match job.step:
            case Step.PREPARE:
                # Weights to start from are verified for what is trained on them.
                start = {"starts": self.starts, **model, **method} if self.starts else {}
                return {"dataset": self.dataset.stated(), **start}
            case Step.ENCODE:
                part = {} if job.shard is None else {"shard": job.shard.stated()}
                return {**model, "size": size, "tiled_vae": self.training.tiled_vae, **part}
            case Step.TRAIN:
                # A run goes on from its checkpoints on another number of GPUs.
                how = ("checkpoint_every", "keep_checkpoints", "preview_every", "parallelism")
                starts = {} if self.starts is None else {"starts": self.starts}
                training = self.training.stated(*how)
                return {**model, **method, **starts, "size": size, "training": training}
            case Step.EXPORT:
                return {**model, **method, "formats": self.formats}
            case Step.SAMPLE:
                return {**model, "size": size, "sample": self.sample.stated()}
            case _:
                raise ValueError(f"{job.step} is no step of a fine-tune")


def finetune_of(job: JobSpec) -> FineTuneWork:
    """The work of a job whose step belongs to a fine-tune. Raises TypeError for another kind."""
    if not isinstance(job.work, FineTuneWork):
        raise TypeError(f"the job of {job.step_id} is no fine-tune's but of {job.work.kind}")
    return job.work
