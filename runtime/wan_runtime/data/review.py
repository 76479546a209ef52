"""Checks all clips of a dataset: verdicts, warnings, duplicates, and the split."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wan_runtime.contract.dataset import DatasetSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.data import quality
from wan_runtime.data.captions import Count
from wan_runtime.data.checker import Checked, Checker, reject
from wan_runtime.data.dataset import Clip, Code, Concern, Dataset, Warned
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.rows import Listing, Row
from wan_runtime.data.source import Source, counted, printable
from wan_runtime.data.split import held_out
from wan_runtime.errors import InputError
from wan_runtime.process.progress import Reporter
from wan_runtime.threads import in_order

log = logging.getLogger(__name__)

THREADS = 3
"""Clips on disk at a time: one is decoded while others arrive."""
NAMED = 3
"""Rejected clips that the message names; the report has all."""


@dataclass(frozen=True, slots=True)
class Review:
    """A dataset with its verdicts, before the split is drawn."""

    listing: Listing
    dataset: Dataset
    thumbnails: dict[int, bytes]
    """WebP by row."""
    alike: frozenset[str]
    """Recordings that show a picture of another one."""


def review(
    source: Source, spec: DatasetSpec, folder: Path, count: Count, report: Reporter
) -> Review:
    """Read the dataset and check every clip. `folder`: where clips are while they are checked.

    Raises InputError(DATASET_NOT_FOUND, DATASET_INVALID, DATASET_EMPTY).
    """
    report.update(activity="reading metadata", unit="clips")
    listing = read_listing(source, spec.format, spec.columns)
    refuse_late_pictures(listing.rows, spec)
    refuse_other_sizes(listing.rows, spec)
    checked = check(listing, Checker(source, spec, folder, count), report)
    name = partial(named, numbered=listing.numbered)
    clips = reject_duplicates([each.clip for each in checked], name)
    clips, alike = mark_alike(clips, checked, name)
    dataset = Dataset(
        source=spec.source,
        metadata=listing.name,
        fps=spec.fps,
        buckets=spec.buckets,
        clips=tuple(clips),
        notes=listing.notes,
    )
    pictures = {each.clip.row: each.thumbnail for each in checked if each.thumbnail is not None}
    return Review(listing, dataset, pictures, alike)


def refuse_late_pictures(rows: Sequence[Row], spec: DatasetSpec) -> None:
    """Raises InputError(DATASET_INVALID) for a picture to start from that is not at the start."""
    row = next((row for row in rows if row.first_frame), None)
    if row is not None and spec.window != "First":
        raise InputError(
            Reason.DATASET_INVALID,
            f"row {row.number} names the first frame {row.first_frame}, and dataset.window "
            f"{spec.window} begins elsewhere: use First, or drop the column",
        )


def refuse_other_sizes(rows: Sequence[Row], spec: DatasetSpec) -> None:
    """Raises InputError(DATASET_INVALID) for a size that the dataset states and the run has not."""
    run = ", ".join(map(str, spec.buckets))
    for row in rows:
        if row.wanted is not None and (missing := row.wanted.missing(spec.buckets)):
            raise InputError(
                Reason.DATASET_INVALID,
                f"{row.wanted.where} has {missing}, and the run cuts clips to {run}: list its "
                "sizes in dataset.buckets, or remove them from the file",
            )


def named(clip: Clip, *, numbered: bool) -> str:
    """`a.mp4 (row 5)`; `numbered`: by a row that people can find."""
    return f"{clip.path} (row {clip.row})" if numbered else clip.path


def check(listing: Listing, checker: Checker, report: Reporter) -> list[Checked]:
    """Verdicts in the order of the rows."""
    report.update(activity="checking clips", current=0, total=len(listing.rows), unit="clips")
    all_checked = []
    for checked in in_order(checker, listing.rows, threads=THREADS):
        clip = checked.clip
        name = named(clip, numbered=listing.numbered)
        if clip.code is not Code.ACCEPTED:
            log.warning("clip %s: %s: %s", name, clip.code, clip.message)
        for warned in clip.warnings:
            log.info("clip %s: %s: %s", name, warned.code, warned.message)
        all_checked.append(checked)
        report.update(current=len(all_checked))
    return all_checked


def reject_duplicates(clips: Sequence[Clip], name: Callable[[Clip], str]) -> list[Clip]:
    """Reject accepted clips with the same bytes as an earlier one: no clip may be in both the
    training and the held-out split."""
    first: dict[str, Clip] = {}
    kept = []
    for clip in clips:
        if clip.code is Code.ACCEPTED:
            twin = first.setdefault(str(clip.sha256), clip)
            if twin is not clip:
                same_row = (twin.path, twin.prompt) == (clip.path, clip.prompt)
                code = Code.DUPLICATE_ROW if same_row else Code.DUPLICATE_CLIP
                said = "repeats" if same_row else "has the same bytes as"
                clip = reject(clip, code, f"{said} {name(twin)}")
        kept.append(clip)
    return kept


def mark_alike(
    clips: Sequence[Clip], checked: Sequence[Checked], name: Callable[[Clip], str]
) -> tuple[list[Clip], frozenset[str]]:
    """The clips, those of different recordings that show one picture with a warning; and these
    recordings."""
    good = [index for index, clip in enumerate(clips) if clip.code is Code.ACCEPTED]
    prints = [checked[index].fingerprint for index in good]
    marked, alike = list(clips), set()
    for one, other in quality.twins([each for each in prints if each is not None]):
        pair = good[one], good[other]
        if clips[pair[0]].source == clips[pair[1]].source:
            continue
        for mine, theirs in (pair, pair[::-1]):
            twin, clip = clips[theirs], marked[mine]
            alike.add(clip.source)
            if any(warned.code is Concern.NEAR_DUPLICATE for warned in clip.warnings):
                continue
            text = f"shows a picture of {name(twin)}, of another recording"
            warned = Warned(code=Concern.NEAR_DUPLICATE, message=text)
            marked[mine] = clip.model_copy(update={"warnings": (*clip.warnings, warned)})
    return marked, frozenset(alike)


def decide(dataset: Dataset, spec: DatasetSpec, alike: Set[str] = frozenset()) -> Dataset:
    """Apply the policy on rejected clips and draw the split. `alike`: recordings that are not to be
    held out, because training shows their pictures.

    Raises InputError(CLIP_INVALID, or DATASET_EMPTY if too few recordings are left).
    """
    good = [clip for clip in dataset.clips if clip.code is Code.ACCEPTED]
    if dataset.rejected and spec.rejected_clips == "Fail":
        without = "; set dataset.rejectedClips: Skip to train without them" if good else ""
        raise InputError(Reason.CLIP_INVALID, f"{rejections(dataset)}{without}")
    sources = {clip.source for clip in good}
    if not good:
        raise InputError(Reason.DATASET_EMPTY, f"no clip is left: {rejections(dataset)}")
    if len(sources) < 2:
        raise InputError(
            Reason.DATASET_EMPTY,
            f"{_all(len(good))} of one recording, {next(iter(sources))!r}, and one recording must "
            "be held out: add clips of another one, or correct the column "
            f"{spec.columns.source!r} (dataset.columns.source)",
        )
    out = held_out(sources, train_fraction=spec.train_fraction, seed=spec.split_seed, alike=alike)
    clips = tuple(
        clip.model_copy(update={"split": "HeldOut" if clip.source in out else "Train"})
        if clip.code is Code.ACCEPTED
        else clip
        for clip in dataset.clips
    )
    return dataset.model_copy(update={"clips": clips})


def rejections(dataset: Dataset) -> str:
    """The first rejected clips by name, and counts of all."""
    bad = dataset.rejected
    first = "; ".join(
        f"clip {printable(clip.path) or '(none)'}: {clip.message}" for clip in bad[:NAMED]
    )
    counts = Counter(clip.code for clip in bad)
    table = ", ".join(f"{count} {code}" for code, count in counts.most_common())
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    of = counted(len(dataset.clips), "clip")
    return f"{first}{more}; {len(bad)} of {of} rejected: {table}"


def _all(clips: int) -> str:
    return "the one good clip is" if clips == 1 else f"all {clips} good clips are"
