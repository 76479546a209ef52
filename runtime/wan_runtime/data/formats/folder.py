"""A folder of clips, each with its caption in a text file beside it, as diffusion-pipe and
ai-toolkit read."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterable

from wan_runtime.data.formats.rows import (
    Listing,
    Row,
    beside,
    decode,
    invalid,
    is_video,
    not_found,
    read_text,
)
from wan_runtime.data.source import Place, Source
from wan_runtime.job import Columns
from wan_runtime.parallel import in_order

log = logging.getLogger(__name__)

THREADS = 8
"""Captions fetched at a time."""
SIZES = frozenset({"size_buckets", "resolutions", "ar_buckets", "frame_buckets"})
"""Keys of diffusion-pipe's TOML, of all clips or of a [[directory]]."""


def read(source: Source, columns: Columns) -> Listing:
    """Every video below the root, in order of their paths. `columns` is of no use here."""
    there = {found.path for found in source.files()}
    refuse_sizes(source, [path for path in there if path.endswith(".toml") and "/" not in path])
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


def refuse_sizes(source: Source, names: Iterable[str]) -> None:
    """Raises InputError(DATASET_INVALID) for a TOML of diffusion-pipe that says how large clips
    are: the run's own spec does, and half of two lists would be ignored."""
    for name in names:
        try:
            content = tomllib.loads(read_text(source, name))
        except tomllib.TOMLDecodeError:
            continue  # of some other tool
        directories = content.get("directory")
        tables = [content, *(directories if isinstance(directories, list) else [])]
        keys = {key for table in tables if isinstance(table, dict) for key in table}
        stated = sorted(keys & SIZES)
        if stated:
            raise invalid(
                name,
                f"has {', '.join(stated)}: list the sizes in dataset.buckets, and remove them "
                "from the file",
            )


def captions(source: Source, sidecars: Iterable[str], there: set[str]) -> list[str]:
    """Text of each sidecar; empty for one that is not there."""

    def caption(path: str) -> str:
        return decode(path, source.read(path)).strip() if path in there else ""

    return list(in_order(caption, sidecars, threads=THREADS))
