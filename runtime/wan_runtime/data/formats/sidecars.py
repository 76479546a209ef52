"""Captions in files of their own, beside the clips."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wan_runtime.data.dataset import Code
from wan_runtime.data.formats.cells import NoTextError, caption_of, cause_of_none
from wan_runtime.data.formats.left_out import named
from wan_runtime.data.formats.rows import Fault, Row
from wan_runtime.data.formats.suffixes import stem, suffix
from wan_runtime.data.formats.text import MAX_BYTES, decode, keys_of
from wan_runtime.data.source import Place, Source, counted, printable
from wan_runtime.errors import InputError
from wan_runtime.threads import in_order

THREADS = 8
"""Captions fetched at a time."""
CAPTIONS_JSON = "captions.json"
"""Caption file of diffusion-pipe: for each clip of its folder a list of captions, by the clip's
file name."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What is said of a clip."""

    text: str
    file: str | None = None
    """It stands in. None: there is no such file."""
    lack: str = ""
    """Why there is none: `in/b.txt is not there`."""
    code: Code = Code.CAPTION_EMPTY
    """The verdict, if there is none."""
    near: str = ""
    """A file that may be meant, if there is none."""
    empty: bool = False
    """The file is there, and nothing stands in it."""


def read_sidecars(
    source: Source, videos: Sequence[str], there: Mapping[str, int], suffixes: Sequence[str]
) -> list[Caption]:
    """The caption of each video, from the text file of its name with the first of the suffixes that
    there is, in letters of any case. `there`: bytes of all files by path."""
    alike = {(stem(path), suffix(path)): path for path in there}
    lower = {each.lower() for each in suffixes}
    clips = {stem(video) for video in videos}
    texts = {
        (stem(path).casefold(), suffix(path)): path
        for path in there
        if suffix(path) in lower and stem(path) not in clips
    }

    def caption(video: str) -> Caption:
        exact = [str(PurePosixPath(video).with_suffix(each)) for each in suffixes]
        others = [alike.get((stem(video), each.lower())) for each in suffixes]
        found = (path for path in (*exact, *others) if path in there)
        path = next(found, None)
        if path is None:
            names = (stem(video).casefold(), _composed(video).casefold())
            keys = ((name, each.lower()) for name in names for each in suffixes)
            near = next((texts[key] for key in keys if key in texts), "")
            lack = f"{exact[0]} is not there" + (f": rename {near}" if near else "")
            return Caption("", lack=lack, near=near)
        if there[path] > MAX_BYTES:
            return _bad(path, f"{path} has {there[path]} bytes; at most {MAX_BYTES} are read")
        try:
            written = decode(path, source.read(path)).strip()
            text = caption_of(written)
        except InputError as error:
            return _bad(path, error.message)
        except NoTextError as error:
            return _bad(path, f"{path} {error}")
        if text:
            return Caption(text, path)
        cause = cause_of_none(written)
        return Caption(
            "", path, f"{path}: {cause}" if cause else f"{path} is empty", empty=not cause
        )

    return list(in_order(caption, videos, threads=THREADS))


def shared(videos: Sequence[str], captions: Sequence[Caption]) -> list[str]:
    """A note on each file that is the caption of several clips."""
    users: dict[str, list[str]] = {}
    for video, caption in zip(videos, captions, strict=True):
        if caption.file is not None:
            users.setdefault(caption.file, []).append(video)
    return [
        f"{printable(file)} is the caption of {len(clips)} clips: {named(clips)}"
        for file, clips in users.items()
        if len(clips) > 1
    ]


def _bad(path: str, cause: str) -> Caption:
    """A caption that is no text."""
    return Caption("", path, cause, Code.CAPTION_INVALID)


def row_beside(
    number: int, video: str, caption: Caption, *, prefix: str = "", **fields: Any
) -> Row:
    """The row of a clip with its caption. `prefix`: before the caption, which then may be empty as
    in diffusion-pipe."""
    fault = None
    if caption.lack and not (caption.empty and prefix):
        said = "has no caption:" if caption.code is Code.CAPTION_EMPTY else "its caption"
        fault = Fault(caption.code, f"{said} {caption.lack}")
    return Row(
        number=number,
        video=Place(video),
        prompt="" if fault else f"{prefix}{caption.text}".strip(),
        source=video,
        fault=fault,
        **fields,
    )


class CaptionsJson:
    """One captions.json, for the clips beside it."""

    def __init__(self, path: str, content: dict[str, Any]) -> None:
        self.path = path
        self._captions = {_composed(name): value for name, value in content.items()}
        self._requested: set[str] = set()
        self._several = 0

    def caption(self, video: str) -> Caption:
        """The first caption of a clip."""
        name = _composed(PurePosixPath(video).name)
        self._requested.add(name)
        if name not in self._captions:
            return Caption("", lack=f"{self.path} has no entry {name!r}")
        value = self._captions[name]
        if isinstance(value, list):
            self._several += len(value) > 1
            value = value[0] if value else None
        try:
            text = caption_of(value)
        except NoTextError as error:
            return _bad(self.path, f"in {self.path} {error}")
        cause = cause_of_none(value)
        lack = f"in {self.path} {cause}" if cause else f"{self.path} has none for {name!r}"
        return Caption(text, self.path, "" if text else lack)

    def notes(self) -> list[str]:
        """What stands in it and is not used."""
        notes = []
        if self._several:
            clips = counted(self._several, "clip")
            notes.append(f"of {clips}, only the first caption in {self.path} is used")
        if others := [name for name in self._captions if name not in self._requested]:
            notes.append(f"left out: entries of {self.path} without a clip: {keys_of(others)}")
        return notes


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
