"""Messages between supervisor and ranks: a JSON object a line over a socket of each rank."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from wan_runtime.contract.base import Contract
from wan_runtime.contract.report import AdapterNote
from wan_runtime.contract.service import Profile
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.full_weights import FineTune
from wan_runtime.rendering.order import Stage, VideoOrder


class Render(Contract):
    """To all ranks: the next video."""

    kind: Literal["render"] = "render"
    job_id: str
    order: VideoOrder
    image: str
    """Path of the first frame, of exactly the order's size."""
    adapters: tuple[AppliedAdapter, ...] = ()
    frames: str
    """Path where rank 0 leaves them: a NumPy file, uint8 [F, H, W, 3]."""


class Cancel(Contract):
    """To rank 0, which passes it to the others at the next step."""

    kind: Literal["cancel"] = "cancel"
    job_id: str


class Check(Contract):
    """To rank 0: what becomes of adapters that were not ready, fetched anew."""

    kind: Literal["check"] = "check"
    adapters: tuple[AppliedAdapter, ...]


class Pace(Contract):
    """How long a video takes here, as its warm-up did."""

    tokens: int
    """Number of the transformer's tokens for one video."""
    frames: int
    guided: bool
    """A step had two passes."""
    step_seconds: float
    """Seconds of one step: the last of the warm-up, so that nothing is compiled or first
    allocated."""
    stages: dict[Stage, float]


class Ready(Contract):
    """Report of each rank, once: it has loaded the model, warmed up and checked its results."""

    kind: Literal["ready"] = "ready"
    rank: int
    load_seconds: float
    compile_seconds: float
    """Seconds that the first video took longer than its repetition."""
    warm_up_seconds: float
    """All else of the warm-up."""
    parts: dict[str, float] = Field(default_factory=dict)
    """Seconds of each part of the start, that of the process first."""
    paces: dict[str, Pace]
    """Pace of each size at the service's default number of frames."""
    peak_gib: float | None
    weights: str
    """Digest of the transformers."""
    fine_tune: FineTune | None = None
    """None: the base model as released."""
    adapters: tuple[AdapterNote, ...] = ()
    """Notes on all of the service's adapters, from rank 0; empty from other ranks."""
    attention: str
    """The kernel at work, followed by `(named)` if the service names it."""
    linear: str
    """Format that most linear layers compute in."""
    exchange: str
    """How the ranks share a video."""
    placement: str
    """Where the transformers' weights are."""
    profile: Profile
    device: str


class Checked(Contract):
    """Report of rank 0 on the adapters of a Check, some time after it."""

    kind: Literal["checked"] = "checked"
    rank: int
    adapters: tuple[AdapterNote, ...]


class Beat(Contract):
    """Report of each rank that it is alive, with its stage and step."""

    kind: Literal["beat"] = "beat"
    rank: int
    job_id: str
    stage: Stage
    step: int = 0
    left: int
    """Number of steps, this one among them, that are yet to be computed."""


class Alive(Contract):
    """Report of each rank that it gets on, at whatever it does: see `wan_runtime.heartbeat`."""

    kind: Literal["alive"] = "alive"
    rank: int


class Done(Contract):
    """Report of each rank: the video's frames are rendered, or it was cancelled."""

    kind: Literal["done"] = "done"
    rank: int
    job_id: str
    cancelled: bool = False
    seconds: dict[Stage, float] = Field(default_factory=dict)
    peak_gib: float | None = None


class Failed(Contract):
    """Report of a rank: this video cannot be rendered, the next one may be. Without a job: no video
    can be rendered."""

    kind: Literal["failed"] = "failed"
    rank: int
    job_id: str | None
    code: str
    """As in a job's Problem."""
    message: str
    hopeless: bool = False
    """Another start would end alike: what the worker was given is wrong."""


Order = Render | Check | Cancel
"""Messages to a rank."""
Report = Ready | Checked | Alive | Beat | Done | Failed
"""Messages of a rank."""
_ORDER: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])
_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])


def dump(message: Contract) -> bytes:
    """One line."""
    return message.model_dump_json(by_alias=True).encode() + b"\n"


def order_of(line: bytes) -> Order:
    """Messages to a rank."""
    return _ORDER.validate_json(line)


def report_of(line: bytes) -> Report:
    """Messages of a rank."""
    return _REPORT.validate_json(line)
