"""What a gateway reports to the operator on its service, as JSON at :9400/state; and why a gateway
or a worker does not begin. No torch.

All seconds that count from a moment are by the database's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, model_validator

from wan_runtime.contract.base import Contract
from wan_runtime.contract.reasons import GatewayReason, Reason
from wan_runtime.contract.rollout import Rollout, Track

STATE_PAGE = "/state"
"""Path of a GatewayState, at PROGRESS_PORT of a pod."""
PROBLEM_CHARACTERS = 500


class QueueReport(Contract):
    queued: int
    running: int
    predicted_seconds: float
    """Predicted time of one worker for all that is queued, in seconds."""
    remaining_seconds: float
    """Time left of all that runs, summed, in seconds: as the workers estimate it, or as predicted
    where they do not yet."""
    oldest_seconds: float
    """Since the oldest queued video was submitted; 0 where none is."""
    last_activity_seconds: float | None
    """Since a video was last submitted, begun or ended. None: not within what is still known, which
    is a day at least."""


class Startup(Contract):
    """Seconds until a worker took its first video."""

    load_seconds: float
    """To fetch what its node lacked, verify and load it."""
    compile_seconds: float
    """Seconds that the first video took beyond its repetition: kernels are chosen, compiled and
    loaded."""
    warm_up_seconds: float
    """All other rendering of the warm-up."""
    parts: dict[str, float] = Field(default_factory=dict)
    """Seconds of each part of the first rank's start, by name. Empty: a release that does not
    report it."""


class AdapterNote(Contract):
    """What a worker says of one adapter."""

    name: str
    ready: bool
    """It was fetched and fits the model. False: all else is served, and videos with it fail."""
    reason: Reason | None = None
    """Reason why the adapter is not ready."""
    message: Annotated[str, Field(max_length=PROBLEM_CHARACTERS)] = ""
    """Why it is not, with the file's address; or what was left out of it."""


class WorkerInfo(Contract):
    """A worker's report on itself."""

    name: str
    """Its pod's, and digits of this process."""
    pod: str = ""
    """Its pod's alone. Empty outside Kubernetes."""
    revision: str = ""
    """Revision of the service that its pod belongs to."""
    ready: bool
    """It takes videos."""
    stopping: bool = False
    """It takes no more, and ends what it has."""
    busy: bool = False
    """It has a video in hand, of which it renders or writes."""
    ranks: int
    """0: a release that does not report it."""
    startup: Startup | None = None
    """Startup times of the ranks at work. None: there are none yet."""
    seconds_per_clip: dict[str, float] = Field(default_factory=dict)
    """Seconds for a video of the service's own length, steps and guidance, by warmed size
    ("1280x720"), measured by the warm-up."""
    peak_gib: float | None = None
    """GPU memory at most so far, of the rank that took most. None: no GPU."""
    adapters: tuple[str, ...] = ()
    """Names of those that were fetched and fit the model."""
    adapter_notes: tuple[AdapterNote, ...] = ()
    """Notes on adapters that are not ready or have a message."""
    attention: str = ""
    """The kernel at work, followed by `(named)` if the service names it."""
    linear: str = ""
    """Format that most linear layers compute in. Empty: a release that does not report it."""
    placement: str = ""
    """Where the transformers' weights are: Resident, Turns or Streamed. Empty: a release that does
    not report it."""
    exchange: str = ""
    """How its ranks share a video. Empty: a release that does not report it."""
    profile: str = ""
    """Arithmetic of the transformers. Empty: a release that does not report it."""
    device: str = ""
    """As torch names it."""
    problem: Annotated[str, Field(max_length=PROBLEM_CHARACTERS)] | None = None
    """Why its last ranks were lost, until others are ready; or the store's, until it answers."""


class WorkerReport(WorkerInfo):
    seen_seconds: float
    """Seconds since its last report."""


class AdapterReport(Contract):
    """What the ready workers of one revision say of one adapter."""

    revision: str
    name: str
    usable: int
    """Number of workers that can use it."""
    faulty: int
    """Number of workers that cannot."""
    note: AdapterNote | None = None
    """Note of the first worker that cannot use it, else of the first that has one."""


class TrackReport(Contract):
    """Statistics of the videos that ended on a track since its canary began; of the stable one at
    least within the last hour. Those of more than a week ago are left out, and so are all but the
    last 10,000. A video counts for the workers that rendered it, so those of another canary are not
    this one's."""

    completed: int
    failed: int
    """Number of videos that failed by errors of the service: without cancelled ones and those that
    failed by an error of the request."""
    median_seconds: float | None = None
    """Median time of rendering a completed video, in seconds: all stages but writing. None: none
    completed."""
    p95_seconds: float | None = None


class ServiceReport(Contract):
    time: datetime
    """Time at which the database was queried."""
    age_seconds: float
    """Since then, as it is handed out."""
    queue: QueueReport
    workers: tuple[WorkerReport, ...]
    """Heard of within the last 30 s, by name."""
    adapters: tuple[AdapterReport, ...] = ()
    """In a summary: in place of what each worker says of them."""
    rollout: Rollout
    """Rollout that the queue follows now: a new ConfigMap takes up to two minutes to arrive. A
    gateway whose own mount has another leaves `begun` out."""
    tracks: dict[Track, TrackReport]
    """`stable`: of all workers but the canary's. `canary`: only while there is one."""

    def summary(self) -> ServiceReport:
        """What the page has. Workers of one revision mostly say the same of many adapters, at
        length: repeated for each worker, it would outgrow what the operator reads."""
        bare = {"adapters": (), "adapter_notes": ()}
        workers = tuple(each.model_copy(update=bare) for each in self.workers)
        return self.model_copy(update={"workers": workers, "adapters": by_revision(self.workers)})


class Fault(Contract):
    """A cause why requests would fail."""

    reason: Reason | GatewayReason
    message: Annotated[str, Field(max_length=PROBLEM_CHARACTERS)]

    @classmethod
    def of(cls, reason: Reason | GatewayReason, message: str) -> Fault:
        """With as much of the message as fits."""
        return cls(reason=reason, message=message[:PROBLEM_CHARACTERS])


class GatewayState(Contract):
    """What a gateway knows of itself and of the service. A worker that waits for the database has
    the page too, with the fault alone."""

    faults: tuple[Fault, ...] = ()
    """Causes why requests to this gateway would fail, the gravest first."""
    service: ServiceReport | None = None
    """Report on the service. None: the database does not answer."""

    @model_validator(mode="before")
    @classmethod
    def _wrapped(cls, content: Any) -> Any:
        """The state of a gateway of an earlier release is a ServiceReport."""
        return {"service": content} if isinstance(content, dict) and "queue" in content else content


def by_revision(workers: Iterable[WorkerInfo]) -> tuple[AdapterReport, ...]:
    """What ready workers say of adapters, once for each revision and adapter."""
    usable, faulty = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    notes: dict[tuple[str, str], AdapterNote] = {}
    for each in (each for each in workers if each.ready):
        usable.update((each.revision, name) for name in each.adapters)
        for note in each.adapter_notes:
            key = each.revision, note.name
            faulty[key] += not note.ready
            if notes.setdefault(key, note).ready and not note.ready:
                notes[key] = note
    return tuple(
        AdapterReport(
            revision=key[0],
            name=key[1],
            usable=usable[key],
            faulty=faulty[key],
            note=notes.get(key),
        )
        for key in dict.fromkeys((*usable, *notes))
    )
