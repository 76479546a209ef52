"""A folder of clips, each with its caption in a text file beside it, as diffusion-pipe and
ai-toolkit read."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from wan_runtime.data.formats.rows import Listing, Row, beside, decode, is_video, not_found
from wan_runtime.data.source import Place, Source
from wan_runtime.job import Columns
from wan_runtime.parallel import in_order

log = logging.getLogger(__name__)

THREADS = 8
"""Captions fetched at a time."""


def read(source: Source, columns: Columns) -> Listing:
    """Every video below the root, in order of their paths. `columns` is of no use here."""
    there = {found.path for found in source.files()}
    videos = [path for path in sorted(there) if is_video(path)]
    if not videos:
        raise not_found(source, "video")
    sidecars = [beside(path, ".txt") for path in videos]
    if not there.intersection(sidecars):
        raise not_found(source, "video with a caption in a .txt of the same name")
    other = len(there) - len(videos) - len(there.intersection(sidecars))
    if other:
        log.warning("%d files are neither clips nor their captions, and are left out", other)
    prompts = captions(source, sidecars, there)
    rows = tuple(
        Row(number=number, video=Place(path), prompt=prompt, source=path)
        for number, (path, prompt) in enumerate(zip(videos, prompts, strict=True), 1)
    )
    files = tuple(path for path in sidecars if path in there)
    return Listing(f"a folder of {len(rows)} clips", rows, files)


def captions(source: Source, sidecars: Iterable[str], there: set[str]) -> list[str]:
    """Text of each sidecar; empty for one that is not there."""

    def caption(path: str) -> str:
        return decode(path, source.read(path)).strip() if path in there else ""

    return list(in_order(caption, sidecars, threads=THREADS))
