"""The table of measured rows, and which of them calibrate.

A row calibrates if the code it ran is what our images run today: the runtime's own training step,
and diffsynth's pipeline, which renders samples. What a service's profiles take beside that is known
from a row each. Rows of other code stay for comparison. A row that ran out of memory calibrates
nothing and is checked: the plan must say that it does not fit.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from wan_runtime.contract.sampling import Profile
from wan_runtime.contract.training import KEEPING, Checkpointing

Kind = Literal["Training", "Forward", "Decode"]
RUN_TODAY: dict[Kind, str] = {"Training": "runtime", "Forward": "diffsynth", "Decode": "diffsynth"}


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Kernels(_Model):
    """Sustained rates of single kernels, in TFLOP/s."""

    gpu: str
    linears: float
    attention_forward: float
    source: str


class Allocator(_Model):
    """GPU memory beside what tensors take."""

    context_gib: float
    fragmentation_gib: float
    source: str


class Scaling(_Model):
    """Speed of two GPUs over one when serving."""

    cfg_parallel: float
    ulysses: float
    decode: float
    """Speed of the decoder that all profiles but Exact have."""
    source: str


class Row(_Model):
    """One measurement, on one GPU unless `gpus` says otherwise. LoRA of rank 32 on q, k, v, o,
    ffn.0 and ffn.2, every block recomputed unless `checkpointing` says otherwise, a bfloat16 base
    unless `precision` does, batch 1."""

    id: str
    kind: Kind
    code: Literal[
        "runtime", "deterministic", "superseded", "diffsynth", "compiled", "kept", "profile"
    ]
    """`deterministic`: the runtime with training.deterministic. `kept`: the runtime with
    `checkpointing`. `profile`: a service with `profile`."""
    profile: Profile = "Exact"
    checkpointing: Checkpointing = "Full"
    precision: Literal["BF16", "FP8"] = "BF16"
    gpus: int = 1
    sequence: int = 1
    """GPUs that share the tokens of a clip."""
    gpu: str
    preset: str
    frames: int
    width: int
    height: int
    seconds: float | None = None
    """A step, a forward pass, or a decoded clip."""
    allocated_gib: float | None = None
    """PyTorch's peak."""
    reserved_gib: float | None = None
    out_of_memory: bool = False
    source: str

    @model_validator(mode="after")
    def _shared_evenly(self) -> Self:
        if self.gpus % self.sequence:
            raise ValueError(
                f"{self.id}: sequence {self.sequence} does not divide {self.gpus} gpus"
            )
        return self

    @property
    def calibrates(self) -> bool:
        return self.code == RUN_TODAY[self.kind] and not self.out_of_memory


class Measured(_Model):
    kernels: Kernels
    allocator: Allocator
    scaling: Scaling
    rows: tuple[Row, ...]

    @property
    def alone(self) -> list[Row]:
        """Rows of one GPU: all figures but `split` are of these."""
        return [row for row in self.rows if row.gpus == 1]

    def calibrating(self, kind: Kind) -> list[Row]:
        return [row for row in self.alone if row.kind == kind and row.calibrates]

    def kept(self) -> list[Row]:
        """Training steps in which no attention was computed twice."""
        return [row for row in self.alone if row.code == "kept"]

    @property
    def split(self) -> Row:
        """The one training step whose tokens two GPUs shared, by which more are planned."""
        (row,) = (row for row in self.rows if row.gpus == row.sequence == 2)
        return row

    def profiles(self, kind: Kind) -> dict[Profile, Row]:
        """What services take with profiles other than Exact, which is diffsynth's code."""
        return {row.profile: row for row in self.alone if (row.kind, row.code) == (kind, "profile")}

    @property
    def deterministic(self) -> Row:
        """The one training step under Full with deterministic kernels."""
        (row,) = (row for row in self.alone if _deterministic(row) and not _keeps(row))
        return row

    @property
    def repeatable(self) -> tuple[Row, Row]:
        """The one training step with deterministic kernels in which no attention was computed
        twice, and that of the default kernels which took turns with it."""
        (row,) = (row for row in self.alone if _deterministic(row) and _keeps(row))
        (usual,) = (each for each in self.kept() if _place(each) == _place(row))
        return row, usual

    def without(self, row_id: str) -> Measured:
        """For the test that leaves each row out in turn."""
        return self.model_copy(update={"rows": tuple(r for r in self.rows if r.id != row_id)})


def _deterministic(row: Row) -> bool:
    return row.code == "deterministic"


def _keeps(row: Row) -> bool:
    return row.checkpointing in KEEPING


def _place(row: Row) -> tuple[object, ...]:
    """What a row ran, but for its kernels."""
    size = row.frames, row.width, row.height
    return row.gpu, row.preset, size, row.checkpointing, row.precision


@cache
def measured() -> Measured:
    """What is in measured.json."""
    file = resources.files("wan_runtime.planner").joinpath("measured.json")
    return Measured.model_validate_json(file.read_text())
