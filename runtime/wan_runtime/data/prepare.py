"""Step `prepare`: looks at every clip before a GPU is asked for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.data.checker import Checker, reject
from wan_runtime.data.dataset import FILE, Clip, Code, Dataset
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.rows import Row
from wan_runtime.data.source import StoreSource
from wan_runtime.data.split import held_out
from wan_runtime.errors import InputError
from wan_runtime.job import DatasetSpec, JobSpec, Reason
from wan_runtime.outcome import Outcome
from wan_runtime.parallel import in_order
from wan_runtime.progress import Reporter

log = logging.getLogger(__name__)

THREADS = 3
"""Clips on disk at a time: one is decoded while others arrive."""
NAMED = 3
"""Rejected clips that the message names; the report has all."""
REPORT = "report.json"


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Check all clips, split the good ones, commit dataset.json.

    Raises InputError; a report with the verdicts is stored beside where the manifest would be.
    """
    spec = job.dataset
    try:
        source = store.for_uri(spec.source)
        prefix = store.parse(spec.source)[1]
    except ValueError as error:
        raise InputError(Reason.DATASET_NOT_FOUND, f"dataset.source {error}") from error
    report.update(activity="reading metadata", unit="clips")
    files = StoreSource(source, prefix)
    listing = read_listing(files, spec.format, spec.columns)
    clips = check(listing.rows, Checker(files, spec, work / "clips"), report)
    clips = reject_duplicates(clips)
    dataset = Dataset(
        source=spec.source,
        metadata=listing.name,
        frames=spec.frames,
        fps=spec.fps,
        width=spec.width,
        height=spec.height,
        clips=tuple(clips),
    )
    try:
        dataset = decide(dataset, spec)
    except InputError as error:
        key = f"{job.output_prefix}/{REPORT}"
        store.put_bytes(key, _json(dataset), content_type="application/json")
        raise InputError(error.reason, f"{error.message}. Report: {store.uri(key)}") from error
    file = work / FILE
    file.write_bytes(_json(dataset))
    summary: dict[str, int | float | str] = {
        "clips": len(dataset.clips),
        "trainClips": len(dataset.train),
        "heldOutClips": len(dataset.held_out),
        "rejectedClips": len(dataset.rejected),
        "recordings": len({clip.source for clip in dataset.clips if clip.split}),
    }
    lineage = manifest.Lineage.of(job, dataset=listing.digest(), seed=spec.split_seed)
    ref = manifest.commit(
        store, job.output_prefix, {FILE: file}, kind="dataset", lineage=lineage, summary=summary
    )
    rejected = f"; rejected: {_rejections(dataset)}" if dataset.rejected else ""
    return Outcome(
        manifest=ref,
        message=f"{len(dataset.train)} clips train, {len(dataset.held_out)} held out{rejected}",
        summary=summary,
    )


def check(rows: Sequence[Row], checker: Checker, report: Reporter) -> list[Clip]:
    """Verdicts in the order of the rows."""
    report.update(activity="checking clips", current=0, total=len(rows), unit="clips")
    clips = []
    for clip in in_order(checker, rows, threads=THREADS):
        if clip.code is not Code.ACCEPTED:
            log.warning("clip %s (row %d): %s: %s", clip.path, clip.row, clip.code, clip.message)
        clips.append(clip)
        report.update(current=len(clips))
    return clips


def reject_duplicates(clips: Sequence[Clip]) -> list[Clip]:
    """Of good clips with equal bytes the first stays: none may be both trained and tested."""
    first: dict[str, Clip] = {}
    kept = []
    for clip in clips:
        if clip.code is Code.ACCEPTED:
            twin = first.setdefault(str(clip.sha256), clip)
            if twin is not clip:
                same_row = (twin.path, twin.prompt) == (clip.path, clip.prompt)
                code = Code.DUPLICATE_ROW if same_row else Code.DUPLICATE_CLIP
                said = "repeats" if same_row else "has the same bytes as"
                clip = reject(clip, code, f"{said} {twin.path} of row {twin.row}")
        kept.append(clip)
    return kept


def decide(dataset: Dataset, spec: DatasetSpec) -> Dataset:
    """Apply the policy on rejected clips and draw the split.

    Raises InputError(CLIP_INVALID, or DATASET_EMPTY if too few recordings are left).
    """
    if dataset.rejected and spec.rejected_clips == "Fail":
        raise InputError(
            Reason.CLIP_INVALID,
            f"{_rejections(dataset)}; set dataset.rejectedClips: Skip to train without them",
        )
    good = [clip for clip in dataset.clips if clip.code is Code.ACCEPTED]
    sources = {clip.source for clip in good}
    if not good:
        raise InputError(Reason.DATASET_EMPTY, f"no clip is left: {_rejections(dataset)}")
    if len(sources) < 2:
        raise InputError(
            Reason.DATASET_EMPTY,
            f"all {len(good)} good clips are of one recording, {next(iter(sources))!r}, and one "
            "recording must be held out: add clips of another one, or correct the column "
            f"{spec.columns.source!r} (dataset.columns.source)",
        )
    out = held_out(sources, train_fraction=spec.train_fraction, seed=spec.split_seed)
    clips = tuple(
        clip.model_copy(update={"split": "HeldOut" if clip.source in out else "Train"})
        if clip.code is Code.ACCEPTED
        else clip
        for clip in dataset.clips
    )
    return dataset.model_copy(update={"clips": clips})


def _rejections(dataset: Dataset) -> str:
    bad = dataset.rejected
    named = "; ".join(f"clip {clip.path or '(none)'}: {clip.message}" for clip in bad[:NAMED])
    counts = Counter(clip.code for clip in bad)
    table = ", ".join(f"{count} {code}" for code, count in counts.most_common())
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"{named}{more}; {len(bad)} of {len(dataset.clips)} clips rejected: {table}"


def _json(dataset: Dataset) -> bytes:
    return (dataset.model_dump_json(by_alias=True, indent=1) + "\n").encode()
