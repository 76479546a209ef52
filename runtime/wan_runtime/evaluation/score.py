"""Step `score`: every video beside its recorded clip, one pair of frames at a time.

What was measured is kept in the store video by video: an attempt goes on where the last one ended.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.errors import ArtifactCorrupt, ObjectNotFound
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.contract.clip_scores import ClipScores, Score
from wan_runtime.contract.evaluation import evaluation_of
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.metric_names import METRICS, MetricName
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.results import collected, generated
from wan_runtime.data.dataset import bring
from wan_runtime.data.decode import suffix_of
from wan_runtime.data.source import counted
from wan_runtime.errors import InputError
from wan_runtime.evaluation import weights
from wan_runtime.evaluation.kept_scores import ScoreCache
from wan_runtime.evaluation.measuring import Measurers, Order, measurers
from wan_runtime.evaluation.metrics import provenance
from wan_runtime.evaluation.metrics.alignment import Grid
from wan_runtime.evaluation.metrics.score import NETWORKS, Limits, Mounted
from wan_runtime.evaluation.parts import part_of
from wan_runtime.evaluation.records import (
    CLIPS,
    SCORES,
    VIDEOS,
    Measured,
    Scores,
    Stored,
    TestClip,
    TestClips,
    Video,
    Videos,
)
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.threads import cores, in_order

log = logging.getLogger(__name__)

THREADS = 8
"""Clips that are measured side by side, at most: one for each processor."""
SHORTEST = 0.9
"""Share of the clip's frames that a video must have to be compared."""


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Measure the videos of the job's clips, and commit what was found. A video that is missing or
    cannot be measured stays in the list, with the reason.

    Raises:
        InputError: CLIP_INVALID, if a recorded clip cannot be read any more; MODEL_NOT_FOUND, if
            weights of a metric are gone.
    """
    ref = collected(job)
    clips = part_of(documents.read(store, ref, CLIPS, TestClips).clips, job.shard)
    manifest.fetch(store, ref, work / "clips", {each.first_frame for each in clips})
    videos = videos_of(store, generated(job))
    measured: list[Measured] = []
    report.update(activity="measuring", total=len(clips), unit="clips")
    threads = min(THREADS, len(cores()))
    with measurers() as processes:
        scoring = Scoring(job, store, work, videos, processes)
        for done, found in enumerate(in_order(scoring.measure, clips, threads=threads), 1):
            measured += found
            report.update(current=done)
    networks = any(not NETWORKS.isdisjoint(each.values) for each in measured)
    scores = Scores(
        measured=tuple(measured),
        device="; ".join(sorted(scoring.devices)),
        versions=provenance.versions(networks),
        settings=provenance.settings(),
    )
    failed = [each for each in measured if each.failure]
    summary: dict[str, int | float | str] = {
        "clips": len(clips),
        "videos": len(measured) - len(failed),
        "failed": len(failed),
    }
    ref = manifest.commit(
        store,
        job.output_prefix,
        {SCORES: documents.written(scores, work / SCORES)},
        kind="scores",
        lineage=Lineage.of(job),
        summary=summary,
    )
    message = f"{counted(len(measured) - len(failed), 'video')} of {counted(len(clips), 'clip')}"
    if failed:
        message += f"; {len(failed)} failed: {failed[0].candidate}: {failed[0].failure}"
    return Outcome(manifest=ref, message=message, summary=summary)


def videos_of(store: Store, refs: Iterable[ManifestRef]) -> dict[str, list[Video]]:
    """Videos of all candidates, by clip."""
    found: dict[str, list[Video]] = defaultdict(list)
    for ref in refs:
        for video in documents.read(store, ref, VIDEOS, Videos).videos:
            found[video.clip].append(video)
    return found


class Scoring:
    """Measures clips, from several threads."""

    def __init__(
        self,
        job: JobSpec,
        store: Store,
        work: Path,
        videos: Mapping[str, Sequence[Video]],
        processes: Measurers,
    ) -> None:
        self.devices: set[str] = set()
        """Names of all that measured."""
        self._spec, self._store, self._work = evaluation_of(job), store, work
        self._videos, self._processes = videos, processes
        folder = work / "weights"
        digests = weights.fetch(self._spec, store, folder)
        self._mounted = Mounted(weights=folder)
        self._cache = ScoreCache(store, job.cache_prefix, digests)
        self._absent = {
            name: Score(reason="NotMounted", message=f"{METRICS[name].mounted}: not mounted")
            for name in self._spec.metrics
            if METRICS[name].mounted is not None and name not in digests
        }

    def measure(self, clip: TestClip) -> list[Measured]:
        """All videos of a clip. Its files are on the disk for as long as it takes."""
        reference = self._work / f"{clip.id}-recorded{suffix_of(clip.recorded.path)}"
        try:
            return [self._one(clip, video, reference) for video in self._videos.get(clip.id, ())]
        finally:
            reference.unlink(missing_ok=True)

    def _one(self, clip: TestClip, video: Video, reference: Path) -> Measured:
        made = partial(Measured, clip=clip.id, candidate=video.candidate, render=video.render)
        if video.video is None:
            return made(failure=video.failure or "there is no video")
        path = self._work / f"{clip.id}-{video.candidate}-{video.render}.mp4"
        try:
            try:
                self._bring(video.video, path)
            except (ArtifactCorrupt, ObjectNotFound) as error:
                if self._spec.candidate(video.candidate).videos is None:
                    raise
                return made(failure=f"it was changed after it was found: {error.message}")
            found = self._found(clip, video.video, path, reference)
        finally:
            path.unlink(missing_ok=True)
        if failure := _failure(clip, found):
            log.warning("%s of %s: %s", clip.id, video.candidate, failure)
            return made(failure=failure, seconds=found.seconds)
        scores = found.scores.items()
        return made(
            values={name: each.value for name, each in scores if each.value is not None},
            missing={name: _why(each) for name, each in scores if each.value is None},
            frames=found.frames_compared,
            legacy_psnr_uint8=found.legacy_psnr_uint8,
            seconds=found.seconds,
        )

    def _bring(self, file: Stored, path: Path) -> None:
        store, (_, key) = self._store.for_uri(file.uri), self._store.parse(file.uri)
        store.download(key, path, sha256=file.sha256, bytes=file.bytes)

    def _found(self, clip: TestClip, video: Stored, path: Path, reference: Path) -> ClipScores:
        """What an earlier attempt or run measured, and the rest, measured now."""
        order = Order(
            path,
            reference,
            self._work / "clips" / clip.first_frame,
            self._spec.metrics,
            Limits(seconds=self._spec.clip_seconds, frames=clip.frames),
            grid=Grid(
                fps=clip.fps,
                size=(clip.size.width, clip.size.height),
                start=clip.recorded.starts[0],
            ),
            mounted=self._mounted,
            legacy=self._spec.legacy_psnr,
        )
        key = self._cache.key(
            {
                "video": video.sha256,
                "reference": clip.recorded.sha256,
                "firstFrame": file_sha256(order.first_frame),
                "grid": asdict(order.grid),
                "frames": clip.frames,
                "legacy": order.legacy,
            }
        )
        known = self._cache.find(key, order.metrics)
        scores: dict[MetricName, Score] = {}
        if known is not None:
            # What is not mounted has no number yet, and is no reason to decode the clips again.
            scores = {**self._absent, **known.scores}
        missing = [name for name in order.metrics if name not in scores]
        if known is None or missing:
            if not reference.exists():
                bring(self._store, clip.recorded, reference)
            known = self._processes.scored(replace(order, metrics=missing))
            self._cache.keep(key, known)
        self.devices |= {known.device} - {""}
        return known.model_copy(update={"scores": {**scores, **known.scores}})


def _failure(clip: TestClip, found: ClipScores) -> str:
    """Why the video counts as a failure; empty if it has been measured. Raises
    InputError(CLIP_INVALID) if the recorded clip is at fault."""
    missing = [each for each in found.scores.values() if each.value is None]
    for score in missing:
        if score.reason in ("ReferenceUnreadable", "FirstFrameUnreadable"):
            raise InputError(Reason.CLIP_INVALID, f"{clip.recorded.path}: {score.message}")
        if score.reason in ("CandidateUnreadable", "TimedOut", "Crashed"):
            return score.message
    frames = found.frames_compared + 1
    if frames < SHORTEST * clip.frames:
        return f"it has {frames} frames at {clip.fps:g} fps, and the clip {clip.frames}"
    return ""


def _why(score: Score) -> str:
    return f"{score.reason}: {score.message}" if score.message else str(score.reason)
