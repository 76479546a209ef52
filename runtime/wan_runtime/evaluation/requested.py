"""Videos of a candidate that a running service renders, through its OpenAI videos API."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
from pydantic import ValidationError

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import ObjectNotFound, Store, file_sha256
from wan_runtime.contract import results
from wan_runtime.contract.base import Contract
from wan_runtime.contract.evaluation import CandidateSpec, EvaluationWork, evaluation_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.clips import survey
from wan_runtime.data.facts import ClipRejected
from wan_runtime.errors import InputError
from wan_runtime.evaluation.client import Client, Refused
from wan_runtime.evaluation.records import Stored, TestClip, Video
from wan_runtime.evaluation.renders import facts_of
from wan_runtime.models.digest import canonical_json
from wan_runtime.process.progress import Reporter

log = logging.getLogger(__name__)

NO_GPU = ("loading", "writing")
"""Stages that are no part of what a further video costs, as services name them."""
AHEAD = 4
"""Videos that the service has of us at a time: several workers are busy, and other clients too."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A requested video, or why the request was refused."""

    clip: TestClip
    key: str
    """Where it will be in the bucket."""
    id: str = ""
    """Id that the service gave it. Empty: it is in the bucket already, or was refused."""
    refused: str = ""


class Cost(Contract):
    """An object beside each video: what it took."""

    gpu_seconds: float | None = None


class Requests:
    """Asks one service for the videos of clips."""

    def __init__(
        self, job: JobSpec, spec: CandidateSpec, store: Store, work: Path, report: Reporter
    ) -> None:
        """Raises InputError(JOB_INVALID) for settings that the API has no field for."""
        assert spec.service is not None
        self._job, self._spec, self._store, self._work = job, spec, store, work
        self._evaluation = evaluation_of(job)
        self._service = spec.service
        heard = partial(report.waits_for, reason=Reason.SERVICE_UNREACHABLE)
        self._client = Client(spec.service, heard)
        if self._evaluation.sampling.shift is not None:
            raise InputError(
                Reason.JOB_INVALID,
                f"candidate {spec.name} is a service, and a request cannot state a shift: leave "
                "sampling.shift out, or set it as the service's default",
            )

    def send(self, clip: TestClip, first_frame: Path) -> Pending:
        """Ask for a video, unless an earlier attempt has brought it."""
        fields = fields_of(self._service.model, self._evaluation, self._spec, clip)
        picture = first_frame.read_bytes()
        request = [self._service.url, fields, manifest.digest(picture)]
        digest = hashlib.sha256(canonical_json(request)).hexdigest()
        key = f"{self._job.output_prefix}/videos/{clip.id}-{digest[:16]}.mp4"
        if self._store.stat(key) is not None:
            return Pending(clip, key)
        # Of this run alone: another one's video may be deleted by the time that it is wanted.
        idempotency = f"wan-evaluation-{self._job.uid}-{digest[:32]}"
        try:
            return Pending(clip, key, self._client.create(fields, picture, idempotency))
        except Refused as refused:
            return Pending(clip, key, refused=str(refused))

    def bring(self, pending: Pending) -> Video:
        """Wait for a video and upload it, or say why there is none."""
        clip, path = pending.clip, self._work / "requested.mp4"
        if pending.refused:
            return self._failed(clip, pending.refused)
        try:
            if pending.id:
                said = self._client.wait(pending.id)
                self._client.download(pending.id, path)
                survey(path, fps=1, limit=1)
                cost = Cost(gpu_seconds=gpu_seconds_of(said, path))
                self._store.put_bytes(f"{pending.key}.json", cost.model_dump_json().encode())
                self._store.put_file(pending.key, path)  # last: where it is, all is
            else:
                self._store.download(pending.key, path)
                cost = self._cost(pending.key)
            stored = Stored(
                uri=self._store.uri(pending.key),
                sha256=file_sha256(path),
                bytes=path.stat().st_size,
            )
        except Refused as refused:
            return self._failed(clip, str(refused))
        except ClipRejected as rejection:
            return self._failed(clip, f"what the service sent {rejection.message}")
        finally:
            path.unlink(missing_ok=True)
        return Video(
            clip=clip.id,
            candidate=self._spec.name,
            seed=clip.seed,
            video=stored,
            gpu_seconds=cost.gpu_seconds,
        )

    def _cost(self, key: str) -> Cost:
        try:
            return Cost.model_validate_json(self._store.get_bytes(f"{key}.json"))
        except (ObjectNotFound, ValidationError):  # an earlier release wrote none
            return Cost()

    def _failed(self, clip: TestClip, message: str) -> Video:
        log.warning("%s: %s", clip.id, message)
        return Video(clip=clip.id, candidate=self._spec.name, seed=clip.seed, failure=message)


def gpu_seconds_of(video: Mapping[str, Any], path: Path) -> float | None:
    """GPU-seconds of a video: what the service says that its stages took, on as many GPUs as the
    file says. Without loading, which comes once, and writing, which takes no GPU. None: the service
    says nothing of it."""
    try:
        timings, gpus = dict(video["timings"]), int(facts_of(path)["gpus"])
        stages = [float(timings[name]) for name in timings if name not in NO_GPU]
    except (av.FFmpegError, KeyError, TypeError, ValueError):
        return None
    taken = sum(stages) * gpus
    return round(taken, 3) if math.isfinite(taken) and taken > 0 else None


def fields_of(
    model: str, work: EvaluationWork, spec: CandidateSpec, clip: TestClip
) -> dict[str, str]:
    """What a request says, but for the picture. What the evaluation leaves open is the service's
    default."""
    sampling = work.sampling
    fields: dict[str, object] = {
        "model": model,
        "prompt": clip.prompt,
        "size": clip.size,
        "frames": clip.frames,
        "fps": f"{clip.fps:g}",
        "seed": clip.seed,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "guidance_low": sampling.guidance_low,
        "negative_prompt": sampling.negative_prompt,
        "quality": spec.profile and spec.profile.lower(),
    }
    return {name: str(value) for name, value in fields.items() if value is not None}


def request(
    job: JobSpec,
    spec: CandidateSpec,
    clips: Sequence[TestClip],
    store: Store,
    work: Path,
    report: Reporter,
) -> Iterator[Video]:
    """The videos of these clips in their order, a few of them requested ahead.

    Raises:
        InputError: if the service refuses the key, or has no field for a setting.
        InfrastructureError: if it does not answer.
    """
    requests = Requests(job, spec, store, work, report)
    pictures = {each.first_frame for each in clips}
    manifest.fetch(store, results.collected(job), work / "clips", pictures)
    sent: deque[Pending] = deque()
    left = iter(clips)
    for done in range(len(clips)):
        report.update(
            activity="waiting for the service", current=done, total=len(clips), unit="videos"
        )
        while len(sent) < AHEAD and (clip := next(left, None)) is not None:
            sent.append(requests.send(clip, work / "clips" / clip.first_frame))
        yield requests.bring(sent.popleft())
