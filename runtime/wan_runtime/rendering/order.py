"""A video on its way: what a worker renders, and how far it is.

The gateway resolves a request against effects and defaults into a `VideoOrder`, which says all that
the pixels depend on; the queue keeps it; a worker needs nothing else. Pydantic only: no torch.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from wan_runtime.contract.base import Contract
from wan_runtime.contract.service import AdapterUse, Profile, SamplingSpec, Size


class State(StrEnum):
    """State of a job. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Nothing changes it any more."""
        return self not in (State.QUEUED, State.RUNNING)


class Stage(StrEnum):
    """What a running job does, in this order."""

    LOADING = "loading"
    """The picture, the adapters."""
    ENCODING_INPUT = "encoding_input"
    """Text, CLIP and VAE of the first frame."""
    DENOISING = "denoising"
    DECODING = "decoding"
    """Latents to pixels."""
    WRITING = "writing"
    """mp4, thumbnail, spritesheet, upload: no GPU."""


class VideoOrder(Contract):
    """Everything that the pixels of a video depend on, beside the service's model."""

    prompt: str
    negative_prompt: str
    size: Size
    frames: int
    fps: float
    steps: int
    guidance: float
    guidance_low: float
    """Guidance scale of the low-noise expert; equal to `guidance` if there is one transformer."""
    shift: float
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    adapters: tuple[AdapterUse, ...] = ()
    """With their strengths resolved."""
    model: str
    """As the request named it: the service's, or an effect's."""
    image: str | None = None
    """Key in the service's bucket of the cropped first frame, a PNG of exactly `size`. Removed when
    the job ends."""
    profile: Profile | None = None
    """Arithmetic of the transformers that the request chose, which workers with Exact are above.
    None: the service's."""
    visible_mark: bool = False
    """Draw the AI-content mark into the picture too; the metadata always has it."""

    @property
    def guided(self) -> bool:
        """Whether steps have a second pass, for classifier-free guidance: those of any expert."""
        return self.guidance != 1.0 or self.guidance_low != 1.0

    def profile_on(self, own: Profile) -> Profile:
        """Arithmetic of this video on a worker whose own is `own`."""
        return own if own == "Exact" or self.profile is None else self.profile


class Choices(Contract):
    """What a request and its effect chose of a video's sampling and adapters. All else follows the
    worker that renders it: its own defaults, its preset's, and the schedules of its adapters."""

    sampling: SamplingSpec
    """Without size, length and rate, which are settled as the picture is cropped."""
    adapters: tuple[AdapterUse, ...] = ()
    """Without the strengths that are the adapters' own."""
    distilled: bool = False
    """A distilled adapter decided the steps, the shift and the guidance of the order."""


class Problem(Contract):
    """Why a job failed: OpenAI's error object."""

    code: str
    """Closed list, see wan_runtime.serving.problems."""
    message: str


class Advance(Contract):
    """How far a running job is."""

    stage: Stage
    step: int = 0
    steps: int = 0
    """Steps of the denoising loop."""
    eta_seconds: float | None = None


class Rendered(Contract):
    """What a worker leaves of a completed video."""

    files: dict[str, str]
    """Variant (video, thumbnail, spritesheet, first_frame) -> key in the bucket."""
    bytes: int
    sha256: str
    """SHA-256 of the video."""
    seconds: dict[Stage, float]
    """Spent in each stage."""
    peak_gib: float | None = None
    """GPU memory, the largest of any rank."""
    weights: str = ""
    """Digest of the base weights and the adapters applied."""
    preset: str = ""
    """Name of the base model. Empty, as all below is None: by a worker of an earlier release."""
    profile: Profile | None = None
    """Arithmetic of the transformers."""
    gpus: int | None = None
    """Number of GPUs, or on CPUs of processes, that rendered it together."""
    computed: int | None = None
    """Number of denoising steps that were computed; of a rule that estimates, all."""


class Delivery(Contract):
    """How far the webhook of a job that ended has come."""

    attempts: int
    """Number of times that it was sent, whether or not it was taken."""
    delivered_at: datetime | None = None
    failed_at: datetime | None = None
    failure: str | None = None
    """Why the receiver did not take it, the last time that it did not."""
    next_at: datetime | None = None
    """When it is sent again; None: it is delivered, or given up."""


class Job(Contract):
    """A row of the queue."""

    id: str
    """`video_` and 32 hexadecimal digits."""
    owner: str
    """Id of the API key of the request."""
    state: State
    order: VideoOrder
    priority: int
    choices: Choices | None = None
    """None: a gateway of an earlier release, for which the order is all that is known."""
    predicted_seconds: float
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    attempts: int = 0
    cancel_requested: bool = False
    advance: Advance | None = None
    rendered: Rendered | None = None
    problem: Problem | None = None
    remixed_from: str | None = None
    webhook: str | None = None
    user: str | None = None
    """End user of the client, as the request named it."""
    delivery: Delivery | None = None
    """None: the webhook was not sent yet, or by an earlier release."""
