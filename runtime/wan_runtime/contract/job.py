"""The contract between the operator and a workload pod.

The operator writes a `JobSpec` into a ConfigMap mounted at `/etc/wan/job.json`; the pod serves
`Progress` at `:9400/progress` while it runs and leaves a `Result` in its termination message.
Nothing else passes between them, so this module is all that the operator imports from the running
side. Pydantic only: no torch.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from wan_runtime.contract.base import Contract as Contract
from wan_runtime.contract.reasons import Reason as Reason
from wan_runtime.contract.steps import SUFFIXES as SUFFIXES
from wan_runtime.contract.steps import Expert as Expert
from wan_runtime.contract.steps import Shard as Shard
from wan_runtime.contract.steps import Step as Step
from wan_runtime.contract.steps import step_id as step_id
from wan_runtime.contract.training import FullSpec as FullSpec
from wan_runtime.contract.training import LoraSpec as LoraSpec
from wan_runtime.contract.training import OptimizerSpec as OptimizerSpec
from wan_runtime.contract.training import TrainingSpec as TrainingSpec

JOB_FILE = "/etc/wan/job.json"
TERMINATION_FILE = "/dev/termination-log"
PROGRESS_PORT = 9400
RESULT_LIMIT = 3072
"""Bytes. The kubelet keeps 4 KiB of a termination message; the rest is headroom for its own
truncation."""


class Dialect(StrEnum):
    """The tool whose names a file of weights bears."""

    DIFFSYNTH = "DiffSynth"
    COMFYUI = "ComfyUI"
    DIFFUSERS = "Diffusers"


class ExitClass(IntEnum):
    """Exit code of `wan-runtime`, and what the operator does about it."""

    DONE = 0
    INPUT = 10
    """The user's input is wrong. Never retried."""
    OUT_OF_MEMORY = 20
    """GPU or host memory. Retried only if the budget for it says so."""
    INFRASTRUCTURE = 30
    """Store, node, driver, or a bug of ours. Retried with back-off."""
    STOPPED = 40
    """Stopped on request with a checkpoint. Resumable; costs no retry."""
    NUMERICAL = 50
    """Loss or gradients are not finite, or a trainable module gets none. Never retried."""


class StoreSpec(Contract):
    """An S3-compatible bucket. Credentials come from AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY."""

    endpoint: str
    """http(s)://host[:port]"""
    bucket: str
    prefix: str = ""
    """Without slashes at either end. All that we write lies below it; the latent cache is shared
    within it."""
    region: str = "us-east-1"
    ca_file: str | None = None
    """Mounted PEM bundle for a private certificate authority."""


class ModelSpec(Contract):
    preset: str
    path: str | None = None
    """Mounted folder with the base weights."""
    source: str | None = None
    """s3://bucket/prefix with the base weights, fetched into the cache folder. Neither: a Tiny
    preset makes its own."""


DatasetFormat = Literal["DiffSynth", "Musubi", "Folder", "WebDataset"]
WindowKind = Literal["First", "Middle", "Spread"]


class Columns(Contract):
    video: str = "video"
    prompt: str = "prompt"
    source: str = "source"
    """Names the recording that a clip was cut from; clips of one recording never straddle the
    split. Without the column, each clip counts as a recording of its own."""
    first_frame: str = "input_image"
    """A picture to start from instead of the clip's own first frame."""
    control_video: str = "control_video"
    vace_video: str = "vace_video"
    """These two are checked and recorded; no preset is conditioned on them."""


class Bucket(Contract):
    """A size and a length that clips are cut to. Clips of one batch share a bucket."""

    width: int
    height: int
    """Pixels."""
    frames: int
    """4n+1."""

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


class DatasetSpec(Contract):
    source: str
    """s3://bucket/prefix of a folder; all paths in the dataset are relative to it."""
    format: DatasetFormat = "DiffSynth"
    columns: Columns = Columns()
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)]
    """Every clip is cut to the one that suits it best."""
    fps: float
    window: WindowKind = "First"
    """Which frames of a longer clip are trained on."""
    windows_per_clip: int = 1
    """Of Spread."""
    train_fraction: float = 0.9
    split_seed: int = 0
    rejected_clips: Literal["Fail", "Skip"] = "Fail"
    """What one bad clip does: fail the run with its name, or leave it out."""


class SampleSpec(Contract):
    count: int = 1
    """Held-out first frames to render; 0 renders none."""
    inference_steps: int = 40
    seed: int = 0


class ManifestRef(Contract):
    """A committed artifact set: where its manifest.json is, and what it must hash to."""

    uri: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class JobSpec(Contract):
    """All that one step needs. The same file serves every attempt of the step."""

    version: Literal[1] = 1
    namespace: str
    name: str
    uid: str
    step: Step
    expert: Expert = Expert.ONLY
    shard: Shard | None = None
    """Of an encode step that takes a part of the clips."""
    model: ModelSpec
    store: StoreSpec
    dataset: DatasetSpec
    lora: LoraSpec | None = None
    full: FullSpec | None = None
    """What is trained: exactly one of the two."""
    training: TrainingSpec = TrainingSpec()
    sample: SampleSpec = SampleSpec()
    formats: tuple[Dialect, ...] = (Dialect.DIFFSYNTH,)
    """Of the exported weights."""
    inputs: dict[str, ManifestRef] = Field(default_factory=dict)
    """Results of earlier steps by step id: `prepare`, `encode`, `train` (or `train-high-noise`,
    ...), `export`."""
    image: str = ""
    """Reference of the runtime image, for lineage."""

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if (self.lora is None) == (self.full is None):
            raise ValueError("exactly one of lora and full says what is trained")
        return self

    @property
    def step_id(self) -> str:
        """`train-high-noise` for the expert of a pair, `encode-part1` for a part, else the step's
        name."""
        return step_id(self.step, self.expert, self.shard)

    @property
    def identity(self) -> dict[str, object]:
        """The fields that shape what the step commits.

        Not its name, uid, image, or where it is stored; nor what belongs to other steps, so that
        asking for more sample videos does not train again. Nor what is as by default: a run goes on
        from its checkpoints after an upgrade to a release that has more fields.
        """
        dataset: dict[str, object] = {"dataset": self.dataset.stated()}
        model: dict[str, object] = {"model": self.model.stated(), "expert": self.expert}
        training = self.training.stated("checkpoint_every", "keep_checkpoints", "preview_every")
        methods = {"lora": self.lora, "full": self.full}
        method = {name: spec.stated() for name, spec in methods.items() if spec is not None}
        size = {
            "fps": self.dataset.fps,
            "buckets": [each.stated() for each in self.dataset.buckets],
        }
        part = {} if self.shard is None else {"shard": self.shard.stated()}
        fields: dict[Step, dict[str, object]] = {
            Step.PREPARE: dataset,
            Step.IMPORT: model,
            Step.ENCODE: {**model, "size": size, "tiled_vae": self.training.tiled_vae, **part},
            Step.TRAIN: {**model, **method, "size": size, "training": training},
            Step.EXPORT: {**model, **method, "formats": self.formats},
            Step.SAMPLE: {**model, "size": size, "sample": self.sample.stated()},
        }
        return {
            "step": self.step,
            "inputs": {step: ref.sha256 for step, ref in self.inputs.items()},
            **fields[self.step],
        }

    @property
    def run_prefix(self) -> str:
        """Key prefix of everything this run writes: `<prefix>/<namespace>/<name>/<uid8>`."""
        parts = (self.store.prefix, self.namespace, self.name, self.uid[:8])
        return "/".join(part for part in parts if part)

    @property
    def output_prefix(self) -> str:
        """Key prefix of what this step commits."""
        return f"{self.run_prefix}/{self.step_id}"

    @property
    def cache_prefix(self) -> str:
        """Key prefix of the latent cache, shared by all runs of the store prefix."""
        return "/".join(part for part in (self.store.prefix, "cache") if part)

    @property
    def models_prefix(self) -> str:
        """Key prefix of imported base models, shared likewise."""
        return "/".join(part for part in (self.store.prefix, "models") if part)


class Certificate(Contract):
    """The weights in one format were reloaded as its tool reloads them, and are what was
    trained."""

    format: Dialect
    consumer: str
    """What reloaded them, with its version."""
    worst_difference: float
    """Largest over layers of |reloaded - trained| / |trained|: of an adapter's deltas; of full
    weights, where it is their rounding to bfloat16."""
    files: tuple[str, ...] = ()
    """Paths in the manifest, which has their checksums; left out of a Result."""


class Checkpoint(Contract):
    """The newest committed state of a training step: what a later attempt goes on from."""

    step: int
    """Optimizer steps done."""
    manifest: ManifestRef
    saved: AwareDatetime


class Progress(Contract):
    """What `:9400/progress` answers."""

    step_id: str
    activity: str
    """What is being done, for people: 'checking clips', 'training'."""
    current: int = 0
    total: int = 0
    """Of `unit`; 0 while unknown."""
    unit: Literal["clips", "steps", "files", "videos", "MB"] = "steps"
    eta_seconds: float | None = None
    loss: float | None = None
    updates_lost: float | None = None
    """Share of parameter updates of the last step that rounding swallowed."""
    checkpoint: Checkpoint | None = None
    updated: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class Result(Contract):
    """Last words of a step, in the termination message."""

    step_id: str
    exit_class: ExitClass
    reason: Reason
    message: str = ""
    manifest: ManifestRef | None = None
    checkpoint: Checkpoint | None = None
    summary: dict[str, int | float | str] = Field(default_factory=dict)
    """A few numbers for status: clips, steps, probe losses. Details are in the store."""
    certificates: tuple[Certificate, ...] = ()
    """Of the export step, one for each format."""

    def dump(self) -> str:
        """JSON of at most RESULT_LIMIT bytes; a long message is cut, the rest is kept whole."""
        text = self.model_dump_json(by_alias=True, exclude_defaults=True)
        excess = len(text.encode()) - RESULT_LIMIT
        if excess <= 0:
            return text
        # Escapes make a character of the message up to 12 bytes long in JSON: cut by measuring, not
        # by counting.
        keep = len(self.message)
        while keep and len(text.encode()) > RESULT_LIMIT:
            keep = max(0, keep - max(1, excess // 2))
            cut = self.model_copy(update={"message": self.message[:keep] + " …"})
            text = cut.model_dump_json(by_alias=True, exclude_defaults=True)
            excess = len(text.encode()) - RESULT_LIMIT
        if len(text.encode()) > RESULT_LIMIT:
            raise ValueError(
                f"result without its message is over {RESULT_LIMIT} bytes: shorten its summary"
            )
        return text
