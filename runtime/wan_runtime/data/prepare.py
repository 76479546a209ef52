"""Step `prepare`: checks every clip before a GPU is needed."""

from __future__ import annotations

from pathlib import Path

from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.summary import TRAIN_WINDOWS, windows_in
from wan_runtime.data import report as report_page
from wan_runtime.data.captions import caption_counter
from wan_runtime.data.dataset import FILE, Concern
from wan_runtime.data.report import counts, filled, write_report
from wan_runtime.data.review import Review, decide, rejections, review
from wan_runtime.data.source import StoreSource, counted
from wan_runtime.errors import InputError
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter

REPORT = "report.json"


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Check all clips, split the good ones, commit dataset.json and report.html.

    Raises InputError; reports with the verdicts are stored beside where the manifest would be.
    """
    spec = finetune_of(job).dataset
    try:
        source = store.for_uri(spec.source)
        prefix = store.parse(spec.source)[1]
    except ValueError as error:
        raise InputError(Reason.DATASET_NOT_FOUND, f"dataset.source {error}") from error
    count = caption_counter(job.base, store, work)
    found = review(StoreSource(source, prefix), spec, work / "clips", count, report)
    try:
        dataset = decide(found.dataset, spec, found.alike)
    except InputError as error:
        where = _store_report(job, store, work, found)
        raise InputError(error.reason, f"{error.message}. {where}") from error
    files = {FILE: work / FILE, report_page.FILE: work / report_page.FILE}
    documents.written(dataset, files[FILE])
    write_report(files[report_page.FILE], dataset, found.thumbnails)
    leaks = sum(
        warned.code is Concern.NEAR_DUPLICATE
        for clip in dataset.held_out
        for warned in clip.warnings
    )
    summary: dict[str, int | float | str] = {
        "clips": len(dataset.clips),
        "trainClips": len(dataset.train),
        TRAIN_WINDOWS: sum(len(clip.starts) for clip in dataset.train),
        "heldOutClips": len(dataset.held_out),
        "rejectedClips": len(dataset.rejected),
        "warnedClips": len(dataset.warned),
        "recordings": len({clip.source for clip in dataset.clips if clip.split}),
    }
    if len(dataset.buckets) > 1:
        summary |= {windows_in(bucket): count for bucket, count in dataset.windows.items()}
    lineage = manifest.Lineage.of(job, dataset=found.listing.digest(), seed=spec.split_seed)
    ref = manifest.commit(
        store, job.output_prefix, files, kind="dataset", lineage=lineage, summary=summary
    )
    parts = [f"{counted(len(dataset.train), 'clip')} train, {len(dataset.held_out)} held out"]
    if leaks:
        parts.append(f"{leaks} held-out clips show pictures of training clips: no other is left")
    if len(dataset.buckets) > 1:
        parts.append(f"by bucket: {filled(dataset, finetune_of(job).training.batch_size)}")
    if dataset.warned:
        parts.append(f"warned of: {counts(dataset.warned)}")
    if dataset.rejected:
        parts.append(f"rejected: {rejections(dataset)}")
    parts += dataset.notes
    return Outcome(manifest=ref, message="; ".join(parts), summary=summary)


def _store_report(job: JobSpec, store: Store, work: Path, found: Review) -> str:
    """Leaves the verdicts of a refused dataset beside where its manifest would be."""
    page = work / report_page.FILE
    write_report(page, found.dataset, found.thumbnails)
    key = f"{job.output_prefix}/{REPORT}"
    data = documents.written(found.dataset, work / REPORT).read_bytes()
    store.put_bytes(key, data, content_type="application/json")
    store.put_file(f"{job.output_prefix}/{report_page.FILE}", page)
    return f"Report: {store.uri(key)}"
