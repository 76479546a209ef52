"""A folder of clips, each with its caption in a text file beside it, as diffusion-pipe and
ai-toolkit read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from wan_runtime.contract.dataset import Columns
from wan_runtime.data.formats.diffusion_pipe import read_setup
from wan_runtime.data.formats.inventory import not_found
from wan_runtime.data.formats.json_text import load_json
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
from wan_runtime.data.formats.suffixes import is_listed, is_video
from wan_runtime.data.formats.text import invalid, read_text
from wan_runtime.data.source import Source, counted

CAPTIONS = (".txt", ".caption")
CONTROLS = "_controls"
"""A folder of ai-toolkit's own, for what it makes of the clips."""


def read(source: Source, columns: Columns) -> Listing:
    """Every video below the root, in order of their paths. `columns` is of no use here."""
    there = {found.path: found.bytes for found in source.files() if is_listed(found.path)}
    setup = read_setup(source, list(there))
    videos = [path for path in sorted(there) if is_video(path)]
    videos = [path for path in videos if CONTROLS not in PurePosixPath(path).parts[:-1]]
    if not videos:
        raise not_found(source, "video", "Folder")
    chosen = {path: each for path in videos if (each := setup.directory(path)) is not None}
    contents = {
        path: load_json(path, read_text(source, path))
        for folder in dict.fromkeys(PurePosixPath(path).parent for path in chosen)
        if (path := str(folder / CAPTIONS_JSON)) in there
    }
    jsons = [CaptionsJson(path, each) for path, each in contents.items() if isinstance(each, dict)]
    captions = _captions(source, list(chosen), there, jsons)
    other = [path for path, each in contents.items() if not isinstance(each, dict)]
    notes = [_instead_of(path, captions) for path in other]
    if not any(caption.file or caption.near for caption in captions.values()):
        raise not_found(source, "video with a caption in a .txt of the same name", "Folder")
    rows = tuple(
        row_beside(number, path, captions[path], prefix=directory.prefix)
        for number, (path, directory) in enumerate(chosen.items(), 1)
    )
    files = dict.fromkeys(each.file for each in captions.values() if each.file is not None)
    if setup.file is not None:
        files[setup.file] = None
    notes += setup.notes
    for prefix in dict.fromkeys(each.prefix for each in chosen.values() if each.prefix):
        count = sum(each.prefix == prefix for each in chosen.values())
        notes.append(
            f"caption_prefix {prefix!r} of {setup.file} begins the captions of "
            f"{counted(count, 'clip')}"
        )
    if outside := [path for path in videos if path not in chosen]:
        said = f"clips in no [[directory]] of {setup.file} ({len(outside)})"
        notes.append(f"left out: {said}: {named(outside)}")
    listed = {each.path for each in jsons}
    beside = [path for path in chosen if captions[path].file not in listed]
    notes += shared(beside, [captions[path] for path in beside])
    notes += [note for each in jsons for note in each.notes()]
    notes += notes_on(there, {*videos, *files, *setup.seen, *other}, CAPTIONS)
    return Listing(f"a folder of {counted(len(rows), 'clip')}", rows, tuple(files), tuple(notes))


def _instead_of(path: str, captions: Mapping[str, Caption]) -> str:
    """A note on a captions.json of another form, where every clip of its folder has a caption
    beside it: there is but one that can be meant. Raises InputError(DATASET_INVALID) elsewhere."""
    folder = PurePosixPath(path).parent
    beside = [each for video, each in captions.items() if PurePosixPath(video).parent == folder]
    if any(each.file is None for each in beside):
        raise invalid(path, 'is no object of clips: {"a.mp4": ["its caption"], …}')
    return f"left out: {path}, which is no object of clips: the text files beside the clips win"


def _captions(
    source: Source, videos: Sequence[str], there: Mapping[str, int], jsons: Sequence[CaptionsJson]
) -> dict[str, Caption]:
    """Caption of each video, by its path. As with diffusion-pipe, captions.json replaces all
    caption files of its folder."""
    listed = {PurePosixPath(each.path).parent: each for each in jsons}
    beside = [path for path in videos if PurePosixPath(path).parent not in listed]
    read = dict(zip(beside, read_sidecars(source, beside, there, CAPTIONS), strict=True))
    return read | {
        path: listed[PurePosixPath(path).parent].caption(path)
        for path in videos
        if path not in read
    }
