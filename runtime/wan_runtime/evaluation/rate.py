"""Step `rate`: people judge the videos, on a page that this process serves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.evaluation import RATING_PORT, RatingSpec, evaluation_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.results import collected, generated, scored
from wan_runtime.data.source import counted
from wan_runtime.evaluation.rating import references, server, simulated
from wan_runtime.evaluation.rating.judgements import Judgements
from wan_runtime.evaluation.rating.links import Links
from wan_runtime.evaluation.rating.panel import Panel
from wan_runtime.evaluation.rating.plan import Item, planned
from wan_runtime.evaluation.records import (
    CLIPS,
    RATINGS,
    SCORES,
    VIDEOS,
    Ratings,
    Scores,
    TestClips,
    Video,
    Videos,
)
from wan_runtime.process import job_file
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.pages import chosen_port
from wan_runtime.process.progress import Reporter

PATIENCE = 5.0
"""Seconds that a request waits for an absent store before it is answered with 503."""
FOLDER = "ratings"
"""Folder below the step's output, with an object for each judgement."""


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Serve the page until all have judged all or the deadline is over; commit what they said.

    Raises:
        Stopped: on SIGTERM. Everything is in the store, and the next attempt goes on.
        InputError: CLIP_INVALID for a recorded clip that cannot be read.
    """
    spec = evaluation_of(job)
    if spec.ratings is None:
        raise ValueError("the evaluation has no ratings")
    clips = documents.read(store, collected(job), CLIPS, TestClips).clips
    clips = clips[: spec.ratings.clips]
    recorded = (
        references.made(job, store, clips, work, report) if spec.ratings.hidden_references else []
    )
    plan = planned(spec.ratings, clips, (*_videos(job, store), *recorded), spec.seed)
    if spec.ratings.simulated:
        ratings = simulated.ratings(spec.ratings, plan, _scores(job, store), spec.seed)
    else:
        ratings = _collected(job, spec.ratings, plan, store, report)
    return _committed(job, store, work, ratings, sum(map(len, plan.values())))


def _collected(
    job: JobSpec,
    spec: RatingSpec,
    plan: dict[str, tuple[Item, ...]],
    store: Store,
    report: Reporter,
) -> Ratings:
    prefix = f"{job.output_prefix}/{FOLDER}"
    judgements = Judgements(store, prefix, spec.mode, plan)
    links = Links.opened_at(store, prefix, spec.raters, datetime.now(UTC))
    # The page has a better answer than to wait for minutes.
    impatient = Store.connect(job.store, patience=Patience(seconds=PATIENCE))

    def deadline_seconds() -> int:
        edited = evaluation_of(job_file.current(job)).ratings
        return (edited or spec).deadline_seconds

    panel = Panel(
        spec=spec,
        deadline_seconds=deadline_seconds,
        plan=plan,
        links=links,
        judgements=judgements,
        store=impatient,
        frames=collected(job).uri.removesuffix(manifest.NAME),
    )
    server.serve(panel, report, chosen_port("WAN_RATING_PORT", RATING_PORT))
    judgements.load()  # also what another attempt saved that still ran beside this one
    return judgements.ratings()


def _videos(job: JobSpec, store: Store) -> Sequence[Video]:
    sets = [documents.read(store, ref, VIDEOS, Videos) for ref in generated(job)]
    return [video for each in sets for video in each.videos]


def _scores(job: JobSpec, store: Store) -> Scores:
    parts = [documents.read(store, ref, SCORES, Scores) for ref in scored(job)]
    return Scores(measured=tuple(each for part in parts for each in part.measured))


def _committed(job: JobSpec, store: Store, work: Path, ratings: Ratings, wanted: int) -> Outcome:
    given = len(ratings.ratings) + len(ratings.choices)
    summary: dict[str, int | float | str] = {"ratings": given, "raters": len(ratings.raters)}
    ref = manifest.commit(
        store,
        job.output_prefix,
        {RATINGS: documents.written(ratings, work / RATINGS)},
        kind="ratings",
        lineage=Lineage.of(job, seed=evaluation_of(job).seed),
        summary=summary,
    )
    how = "simulated ratings" if ratings.simulated else "ratings"
    message = f"{given} of {wanted} {how} by {counted(len(ratings.raters), 'rater')}"
    if not ratings.complete:
        message += "; the deadline came first"
    return Outcome(manifest=ref, message=message, summary=summary)
