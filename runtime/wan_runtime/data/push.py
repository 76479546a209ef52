"""Uploading a dataset that was checked: what is there already is not sent again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.data.dataset import Clip, Code, Dataset
from wan_runtime.data.formats.rows import Listing
from wan_runtime.process.progress import Reporter
from wan_runtime.threads import in_order

THREADS = 4
"""Files sent at a time."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One file."""

    path: str
    bytes: int
    new: bool
    """False: an object of this size and checksum was there."""


def files_of(listing: Listing, dataset: Dataset) -> tuple[list[str], list[str]]:
    """Paths of all that makes up the accepted clips, and of what lists them."""
    good = [clip for clip in dataset.clips if clip.code is Code.ACCEPTED]
    wanted = dict.fromkeys(path for clip in good for path in _paths(clip))
    return [path for path in wanted if path not in listing.files], list(listing.files)


def push(
    folder: Path,
    groups: Sequence[Sequence[str]],
    store: Store,
    prefix: str,
    report: Reporter,
    *,
    dry_run: bool = False,
) -> list[Sent]:
    """Upload files of `folder` below `prefix`. `dry_run`: only find what is missing there.

    A group begins when the one before is there: what lists the clips comes last, so that half an
    upload is not mistaken for a dataset.
    An upload that was broken off goes on with the files that are missing; a broken connection costs
    one part of a file. Raises InfrastructureError.
    """
    activity, total = "comparing" if dry_run else "uploading", sum(map(len, groups))
    report.update(activity=activity, current=0, total=total, unit="files")

    def send(path: str) -> Sent:
        file = folder / path
        size, digest = file.stat().st_size, file_sha256(file)
        key = "/".join(part for part in (prefix, path) if part)
        found = store.stat(key)
        new = found is None or (found.bytes, found.sha256) != (size, digest)
        if new and not dry_run:
            store.put_file(key, file, sha256=digest)
        return Sent(path, size, new)

    sent: list[Sent] = []
    for group in groups:
        for each in in_order(send, group, threads=THREADS):
            sent.append(each)
            report.update(current=len(sent))
    return sent


def _paths(clip: Clip) -> Iterable[str]:
    if clip.offset is None:
        yield clip.path
    for file in (clip.first_frame, clip.control_video, clip.vace_video):
        if file is not None:
            yield file.path
