"""Step `generate`: the videos of one candidate, rendered here, by a service, or found.

A clip without a video is a failure of its candidate and stays in the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.evaluation import CandidateSpec, evaluation_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.results import collected
from wan_runtime.data.source import counted
from wan_runtime.evaluation import requested
from wan_runtime.evaluation.parts import part_of
from wan_runtime.evaluation.ready import ReadyVideos
from wan_runtime.evaluation.records import CLIPS, VIDEOS, TestClip, TestClips, Video, Videos
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Make or find the videos of the job's clips, and commit the list of them.

    Raises:
        InputError: if the candidate cannot be rendered at all; what is wrong with one clip alone
            becomes the failure of its video.
    """
    assert job.candidate is not None
    candidate = evaluation_of(job).candidate(job.candidate)
    clips = documents.read(store, collected(job), CLIPS, TestClips).clips
    wanted = [*_made(job, candidate, clips, store, work, report)]
    videos = Videos(candidate=candidate.name, videos=tuple(wanted))
    summary = _summary(wanted)
    ref = manifest.commit(
        store,
        job.output_prefix,
        {VIDEOS: documents.written(videos, work / VIDEOS)},
        kind="videos",
        lineage=Lineage.of(job, seed=evaluation_of(job).seed),
        summary=summary,
    )
    return Outcome(manifest=ref, message=_message(wanted), summary=summary)


def _made(
    job: JobSpec,
    candidate: CandidateSpec,
    clips: Sequence[TestClip],
    store: Store,
    work: Path,
    report: Reporter,
) -> Iterator[Video]:
    part = part_of(clips, job.shard)
    if candidate.videos is not None:
        ready = ReadyVideos(store, candidate.videos, clips)
        for done, clip in enumerate(part):
            report.update(activity="finding videos", current=done, total=len(part), unit="videos")
            yield ready.find(clip, candidate.name, work)
    elif candidate.service is not None:
        yield from requested.request(job, candidate, part, store, work, report)
    else:
        # torch takes seconds and memory that no other candidate needs.
        from wan_runtime.evaluation import rendered

        yield from rendered.render(job, candidate, part, store, work, report)


def _summary(videos: Sequence[Video]) -> dict[str, int | float | str]:
    summary: dict[str, int | float | str] = {
        "videos": sum(each.video is not None for each in videos),
        "failed": sum(each.video is None for each in videos),
    }
    taken = [each.gpu_seconds for each in videos if each.gpu_seconds is not None]
    if taken:
        summary["gpuSeconds"] = round(sum(taken), 1)
    return summary


def _message(videos: Sequence[Video]) -> str:
    failures = Counter(each.failure for each in videos if each.video is None)
    parts = [counted(len(videos) - failures.total(), "video")]
    if failures:
        first, times = failures.most_common(1)[0]
        more = f" ({times} times)" if times > 1 else ""
        parts.append(f"{counted(failures.total(), 'clip')} without one: {first}{more}")
    return "; ".join(parts)
