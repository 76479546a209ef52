"""A folder of clips, each with its caption in a text file beside it, as diffusion-pipe and
ai-toolkit read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from wan_runtime.contract.job import Columns
from wan_runtime.data.formats.diffusion_pipe import read_setup
from wan_runtime.data.formats.inventory import not_found
from wan_runtime.data.formats.left_out import named, notes_on
from wan_runtime.data.formats.rows import Listing
from wan_runtime.data.formats.sidecars import (
    CAPTIONS_JSON,
    Caption,
    CaptionsJson,
    read_sidecars,
    row_beside,
    shared,
)
from wan_runtime.data.formats.suffixes import is_junk, is_video
from wan_runtime.data.source import Source

CAPTIONS = (".txt", ".caption")
CONTROLS = "_controls"
"""A folder of ai-toolkit's own, for what it makes of the clips."""


def read(source: Source, columns: Columns) -> Listing:
    """Every video below the root, in order of their paths. `columns` is of no use here."""
    there = {found.path: found.bytes for found in source.files() if not is_junk(found.path)}
    setup = read_setup(source, list(there))
    videos = [path for path in sorted(there) if is_video(path)]
    videos = [path for path in videos if CONTROLS not in PurePosixPath(path).parts[:-1]]
    if not videos:
        raise not_found(source, "video", "Folder")
    chosen = {path: each for path in videos if (each := setup.directory(path)) is not None}
    jsons = [
        CaptionsJson(source, path)
        for folder in dict.fromkeys(PurePosixPath(path).parent for path in chosen)
        if (path := str(folder / CAPTIONS_JSON)) in there
    ]
    captions = _captions(source, list(chosen), there, jsons)
    if not any(caption.file or caption.near for caption in captions.values()):
        raise not_found(source, "video with a caption in a .txt of the same name", "Folder")
    rows = tuple(
        row_beside(number, path, captions[path], prefix=directory.prefix)
        for number, (path, directory) in enumerate(chosen.items(), 1)
    )
    files = dict.fromkeys(each.file for each in captions.values() if each.file is not None)
    if setup.file is not None:
        files[setup.file] = None
    notes = [*setup.notes]
    for prefix in dict.fromkeys(each.prefix for each in chosen.values() if each.prefix):
        count = sum(each.prefix == prefix for each in chosen.values())
        notes.append(
            f"caption_prefix {prefix!r} of {setup.file} begins the captions of {count} clips"
        )
    if outside := [path for path in videos if path not in chosen]:
        said = f"clips in no [[directory]] of {setup.file} ({len(outside)})"
        notes.append(f"left out: {said}: {named(outside)}")
    listed = {each.path for each in jsons}
    beside = [path for path in chosen if captions[path].file not in listed]
    notes += shared(beside, [captions[path] for path in beside])
    notes += [note for each in jsons for note in each.notes()]
    notes += notes_on(there, {*videos, *files, *setup.seen}, CAPTIONS)
    return Listing(f"a folder of {len(rows)} clips", rows, tuple(files), tuple(notes))


def _captions(
    source: Source, videos: Sequence[str], there: Mapping[str, int], jsons: Sequence[CaptionsJson]
) -> dict[str, Caption]:
    """That of each video. As with diffusion-pipe, captions.json stands for all of its folder."""
    listed = {PurePosixPath(each.path).parent: each for each in jsons}
    beside = [path for path in videos if PurePosixPath(path).parent not in listed]
    read = dict(zip(beside, read_sidecars(source, beside, there, CAPTIONS), strict=True))
    return read | {
        path: listed[PurePosixPath(path).parent].caption(path)
        for path in videos
        if path not in read
    }
