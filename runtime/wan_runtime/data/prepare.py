"""Step `prepare`: looks at every clip before a GPU is asked for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import ObjectNotFound, Store
from wan_runtime.data.clips import ClipRejected, Facts, check_clip
from wan_runtime.data.dataset import FILE, Clip, Code, Dataset
from wan_runtime.data.metadata import Row, find_metadata, read_rows
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
    name, data = find_metadata(source, prefix)
    rows = read_rows(name, data, spec.columns)
    clips = check(rows, Checker(source, prefix, spec, work / "clips"), report)
    clips = reject_duplicates(clips)
    dataset = Dataset(
        source=spec.source,
        metadata=name,
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
    lineage = manifest.Lineage(
        config_hash=manifest.job_hash(job),
        preset=job.model.preset,
        dataset=manifest.digest(data),
        image=job.image,
        seed=spec.split_seed,
    )
    ref = manifest.commit(
        store, job.output_prefix, {FILE: file}, kind="dataset", lineage=lineage, summary=summary
    )
    rejected = f"; rejected: {_rejections(dataset)}" if dataset.rejected else ""
    return Outcome(
        manifest=ref,
        message=f"{len(dataset.train)} clips train, {len(dataset.held_out)} held out{rejected}",
        summary=summary,
    )


class Checker:
    """Checks one row after another, from several threads."""

    def __init__(self, source: Store, prefix: str, spec: DatasetSpec, folder: Path) -> None:
        self._source = source
        self._prefix = prefix
        self._spec = spec
        self._folder = folder

    def __call__(self, row: Row) -> Clip:
        """The verdict on a row; its file is on disk only while it is looked at."""
        path = str(PurePosixPath(row.video)) if row.video else ""
        key = f"{self._prefix}/{path}" if self._prefix else path
        clip = Clip(
            row=row.number,
            path=path,
            uri=self._source.uri(key),
            key=key,
            prompt=row.prompt,
            source=row.source,
            code=Code.ACCEPTED,
        )
        if (fault := path_fault(row.video)) is not None:
            return _reject(clip, Code.PATH_INVALID, fault)
        if not row.prompt:
            return _reject(clip, Code.CAPTION_EMPTY, "has no caption")
        file = self._folder / f"{row.number}{PurePosixPath(path).suffix}"
        try:
            return self._inspect(clip, file)
        finally:
            file.unlink(missing_ok=True)

    def _inspect(self, clip: Clip, file: Path) -> Clip:
        spec = self._spec
        try:
            got = self._source.download(clip.key, file)
        except ObjectNotFound:
            return _reject(clip, Code.NOT_FOUND, f"does not exist: {clip.uri}")
        clip = clip.model_copy(update={"sha256": got.sha256, "bytes": got.bytes})
        try:
            facts = check_clip(
                file, frames=spec.frames, fps=spec.fps, width=spec.width, height=spec.height
            )
        except ClipRejected as rejection:
            return _reject(_with_facts(clip, rejection.facts), rejection.code, rejection.message)
        return _with_facts(clip, facts)


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
                clip = _reject(clip, code, f"{said} {twin.path} of row {twin.row}")
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


def path_fault(path: str) -> str | None:
    """What is wrong with a path in the metadata file; None if it stays in the dataset's folder."""
    pure = PurePosixPath(path)
    if not path:
        return "the row names no file"
    if pure.is_absolute() or "://" in path:
        return "is not relative to dataset.source"
    if ".." in pure.parts or "\0" in path:
        return "leaves dataset.source"
    return None


def _rejections(dataset: Dataset) -> str:
    bad = dataset.rejected
    named = "; ".join(f"clip {clip.path or '(none)'}: {clip.message}" for clip in bad[:NAMED])
    counts = Counter(clip.code for clip in bad)
    table = ", ".join(f"{count} {code}" for code, count in counts.most_common())
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"{named}{more}; {len(bad)} of {len(dataset.clips)} clips rejected: {table}"


def _reject(clip: Clip, code: Code, message: str) -> Clip:
    return clip.model_copy(update={"code": code, "message": message})


def _with_facts(clip: Clip, facts: Facts) -> Clip:
    return clip.model_copy(
        update={
            "width": facts.width or None,
            "height": facts.height or None,
            "fps": facts.fps or None,
            "duration": facts.duration or None,
            "frames": facts.frames,
        }
    )


def _json(dataset: Dataset) -> bytes:
    return (dataset.model_dump_json(by_alias=True, indent=1) + "\n").encode()
