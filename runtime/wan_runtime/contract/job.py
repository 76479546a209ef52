"""The contract between the operator and the pod of a step.

The operator writes a `JobSpec` into a ConfigMap mounted at `/etc/wan/job.json`; the pod serves
`Progress` at `:9400/progress` while it runs and leaves a `Result` in its termination message.
Nothing else passes between them, so this module is all that the operator imports from the running
side. Pydantic only: no torch.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from wan_runtime.contract.base import Contract
from wan_runtime.contract.earlier import enveloped
from wan_runtime.contract.evaluation import EvaluationWork
from wan_runtime.contract.finetune import Dialect, FineTuneWork
from wan_runtime.contract.model_import import ImportWork
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import FACTS, Expert, Shard, Step, step_id
from wan_runtime.contract.stored import STORE_SECRET, ManifestRef, ModelSpec, StoreSpec
from wan_runtime.contract.training import Parallelism
from wan_runtime.contract.verdict import Verdict

__all__ = [
    "JOB_FILE",
    "PROGRESS_PORT",
    "RESULT_LIMIT",
    "STORE_SECRET",
    "TERMINATION_FILE",
    "Certificate",
    "Checkpoint",
    "ExitClass",
    "JobSpec",
    "ManifestRef",
    "ModelSpec",
    "Progress",
    "Result",
    "StoreSpec",
]

JOB_FILE = "/etc/wan/job.json"
TERMINATION_FILE = "/dev/termination-log"
PROGRESS_PORT = 9400
RESULT_LIMIT = 3072
"""Bytes. The kubelet keeps 4 KiB of a termination message; the rest is headroom for its own
truncation."""


class ExitClass(IntEnum):
    """Exit code of `wan-runtime`, and what the operator does about it."""

    DONE = 0
    INPUT = 10
    """The user's input is wrong. Waited for before a GPU was held, else never retried."""
    OUT_OF_MEMORY = 20
    """GPU or host memory. Retried only if the budget for it says so."""
    INFRASTRUCTURE = 30
    """Store, node, driver, or a bug of ours. Retried with back-off."""
    STOPPED = 40
    """Stopped on request with a checkpoint. Resumable; costs no retry."""
    NUMERICAL = 50
    """Loss or gradients are not finite, or a trainable module gets none. Never retried."""


class JobSpec(Contract):
    """All that one step needs: an envelope that is alike for all kinds of work, and the work.

    The same file serves every attempt of the step.
    """

    version: Literal[2] = 2
    namespace: str
    name: str
    uid: str
    step: Step
    expert: Expert = Expert.ONLY
    shard: Shard | None = None
    """The part of the clips that an encode, generate or score step takes."""
    candidate: str | None = None
    """The candidate that a generate step renders, or whose base model an import step verifies."""
    model: ModelSpec | None = None
    """The base model. None: the step reads none."""
    store: StoreSpec
    work: Annotated[FineTuneWork | ImportWork | EvaluationWork, Field(discriminator="kind")]
    inputs: dict[str, ManifestRef] = Field(default_factory=dict)
    """Results of earlier steps by step id: `prepare`, `encode`, `train` (or `train-high-noise`,
    ...), `export`."""
    image: str = ""
    """Reference of the runtime image, for lineage."""

    @model_validator(mode="before")
    @classmethod
    def _enveloped(cls, content: Any) -> Any:
        return enveloped(content)

    @model_validator(mode="after")
    def _is_a_step_of_its_work(self) -> Self:
        if self.step not in self.work.steps:
            steps = ", ".join(sorted(self.work.steps))
            raise ValueError(f"{self.step} is no step of {self.work.kind}: it has {steps}")
        return self

    @property
    def step_id(self) -> str:
        """`train-high-noise` for the expert of a pair, `encode-part1` for a part,
        `generate-NAME` for a candidate, else the step's name."""
        return step_id(self.step, self.expert, self.shard, self.candidate)

    @property
    def base(self) -> ModelSpec:
        """The base model of a step that reads one. Raises ValueError for another."""
        if self.model is None:
            raise ValueError(f"the job of {self.step_id} names no base model")
        return self.model

    @property
    def parallelism(self) -> Parallelism:
        """Processes that do the step together."""
        return self.work.parallelism if FACTS[self.step].spreads else Parallelism()

    @property
    def identity(self) -> dict[str, object]:
        """The fields that shape what the step commits.

        Not its name, uid, image, or where it is stored; nor what belongs to other steps, so that
        asking for more sample videos does not train again. Nor what is as by default: a run goes on
        from its checkpoints after an upgrade to a release that has more fields.
        """
        return {
            "step": self.step,
            "inputs": {step: ref.sha256 for step, ref in self.inputs.items()},
            **self.work.identity(self),
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
    """Total number of `unit`; 0 while unknown."""
    unit: Literal["clips", "steps", "files", "videos", "ratings", "MB"] = "steps"
    eta_seconds: float | None = None
    loss: float | None = None
    updates_lost: float | None = None
    """Share of parameter updates of the last step that rounding swallowed."""
    checkpoint: Checkpoint | None = None
    waits_for: str = ""
    """Address of a store or service that gives no answer, and the cause; empty while none is waited
    for."""
    waits_reason: Reason | None = None
    """Which of them, as an error would name it."""
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
    """Certificates of the export step, one for each format."""
    verdict: Verdict | None = None
    """What an evaluation found, from its compare step."""

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
