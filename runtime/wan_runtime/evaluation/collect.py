"""Step `collect`: the clips that candidates are compared on, and the first frames that these start
from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.dataset import Bucket, DatasetSpec
from wan_runtime.contract.evaluation import EvaluationWork, evaluation_of
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.metric_names import METRIC_NAMES, METRICS
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import SamplingSpec, Size
from wan_runtime.data.buckets import one_of_each
from wan_runtime.data.captions import caption_counter, estimate
from wan_runtime.data.dataset import Clip, Code, load_dataset
from wan_runtime.data.facts import ClipRejected
from wan_runtime.data.pixels import start_of, window_of
from wan_runtime.data.review import rejections, review
from wan_runtime.data.source import StoreSource, counted
from wan_runtime.errors import InputError
from wan_runtime.evaluation import weights
from wan_runtime.evaluation.records import CLIPS, FIRST_FRAMES, TestClip, TestClips
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter

NAMED = 3
"""Clips left out that the message names."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Clips that may be compared on."""

    clips: Sequence[Clip]
    fps: float
    """Rate that their windows are counted at."""
    digest: str
    """SHA-256 of what they were chosen from."""


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Choose the clips, cut their first frames, commit both.

    Raises:
        InputError: DATASET_NOT_FOUND, DATASET_INVALID, DATASET_EMPTY, CLIP_INVALID; MODEL_NOT_FOUND
            for weights of metrics; METRIC_UNAVAILABLE for one that decides.
    """
    spec = evaluation_of(job)
    weights.check(spec, store)
    if spec.clips.dataset is None:
        assert spec.clips.held_out is not None
        recorded = _held_out(store, spec.clips.held_out)
    else:
        recorded = _checked(job, spec.clips.dataset, spec.sampling, store, work, report)
    tests, left_out = _chosen(spec, recorded, store, work, report)
    if not tests:
        raise InputError(
            Reason.DATASET_EMPTY,
            f"no clip is left to compare candidates on: {_first(left_out)}; choose a size, a "
            "length and a rate that the clips have, or other clips",
        )
    _check_decisive(spec, tests)
    files = {each.first_frame: work / each.first_frame for each in tests}
    files[CLIPS] = documents.written(TestClips(clips=tuple(tests)), work / CLIPS)
    recordings = len({each.recorded.source for each in tests})
    summary: dict[str, int | float | str] = {"clips": len(tests), "recordings": recordings}
    if left_out:
        summary["leftOut"] = len(left_out)
    ref = manifest.commit(
        store,
        job.output_prefix,
        files,
        kind="clips",
        lineage=Lineage.of(job, dataset=recorded.digest, seed=spec.seed),
        summary=summary,
    )
    message = f"{counted(len(tests), 'clip')} of {counted(recordings, 'recording')}"
    if left_out:
        message += f"; {len(left_out)} left out: {_first(left_out)}"
    return Outcome(manifest=ref, message=message, summary=summary)


def _check_decisive(spec: EvaluationWork, clips: Sequence[TestClip]) -> None:
    """Find out before a GPU works for it whether each clip will have the numbers that decide."""
    for name in METRIC_NAMES:
        fields = spec.naming(name)
        if not fields:
            continue
        for clip in clips:
            size = clip.size
            fault = METRICS[name].fault(
                size.width, size.height, clip.frames, clip.fps, on_gpu=spec.score_on_gpu
            )
            if fault is not None:
                raise InputError(
                    Reason.METRIC_UNAVAILABLE,
                    f"{' and '.join(fields)} names {name}, which {fault}: "
                    f"{clip.recorded.path} is compared at {size}, {clip.frames} frames and "
                    f"{clip.fps:g} fps",
                )


def _held_out(store: Store, ref: ManifestRef) -> Recorded:
    dataset = load_dataset(store, ref)
    if not dataset.held_out:
        raise InputError(
            Reason.DATASET_EMPTY,
            f"{ref.uri} holds no clip out: name clips that the candidates were not trained on as "
            "a dataset of the evaluation's own",
        )
    return Recorded(dataset.held_out, dataset.fps, ref.sha256)


def _checked(
    job: JobSpec,
    dataset: DatasetSpec,
    sampling: SamplingSpec,
    store: Store,
    work: Path,
    report: Reporter,
) -> Recorded:
    """All clips of a dataset, each checked as those of a training are."""
    spec = dataset.model_copy(
        update={
            "fps": sampling.fps or dataset.fps,
            "buckets": tuple(dict.fromkeys(_wanted(each, sampling) for each in dataset.buckets)),
        }
    )
    try:
        source = StoreSource(store.for_uri(spec.source), store.parse(spec.source)[1])
    except ValueError as error:
        raise InputError(Reason.DATASET_NOT_FOUND, f"dataset.source {error}") from error
    count = estimate if job.model is None else caption_counter(job.model, store, work)
    found = review(source, spec, work / "clips", count, report)
    if found.dataset.rejected and spec.rejected_clips == "Fail":
        raise InputError(
            Reason.CLIP_INVALID,
            f"{rejections(found.dataset)}; set dataset.rejectedClips: Skip to compare without them",
        )
    good = [clip for clip in found.dataset.clips if clip.code is Code.ACCEPTED]
    if not good:
        raise InputError(Reason.DATASET_EMPTY, f"no clip is left: {rejections(found.dataset)}")
    return Recorded(good, spec.fps, found.listing.digest())


def _wanted(bucket: Bucket, sampling: SamplingSpec) -> Bucket:
    """What a clip of the bucket is cut to: what the evaluation says goes first."""
    return Bucket(
        width=bucket.width if sampling.size is None else sampling.size.width,
        height=bucket.height if sampling.size is None else sampling.size.height,
        frames=sampling.frames or bucket.frames,
    )


def _chosen(
    spec: EvaluationWork, recorded: Recorded, store: Store, work: Path, report: Reporter
) -> tuple[list[TestClip], list[str]]:
    """As many clips as are wanted, one of each recording first; and why others were left out."""
    tests: list[TestClip] = []
    left_out: list[str] = []
    (work / FIRST_FRAMES).mkdir(parents=True, exist_ok=True)
    wanted = min(spec.clips.count, len(recorded.clips))
    for clip in one_of_each(recorded.clips, lambda each: each.source):
        report.update(
            activity="cutting first frames", current=len(tests), total=wanted, unit="clips"
        )
        if len(tests) == wanted:
            break
        try:
            tests.append(_cut(clip, len(tests), spec, recorded.fps, store, work))
        except ClipRejected as rejection:
            left_out.append(f"{clip.path} {rejection.message}")
    return tests, left_out


def _cut(
    clip: Clip, index: int, spec: EvaluationWork, counted_at: float, store: Store, work: Path
) -> TestClip:
    """The clip with its first frame on disk. Raises ClipRejected."""
    bucket, fps = _wanted(clip.size, spec.sampling), spec.sampling.fps or counted_at
    start = round(clip.starts[0] * fps / counted_at)
    clip = clip.model_copy(update={"bucket": bucket, "starts": (start,)})
    frames = window_of(store, clip, fps, work / "clips", start)
    name = f"clip-{index + 1:04d}"
    path = f"{FIRST_FRAMES}/{name}.png"
    Image.fromarray(start_of(store, clip, frames, work / "clips")).save(work / path)
    return TestClip(
        id=name,
        prompt=clip.prompt,
        recorded=clip,
        first_frame=path,
        size=Size(width=bucket.width, height=bucket.height),
        frames=bucket.frames,
        fps=fps,
        seed=(spec.seed + index) % 2**63,
    )


def _first(left_out: Sequence[str]) -> str:
    more = f"; and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    return "; ".join(left_out[:NAMED]) + more
