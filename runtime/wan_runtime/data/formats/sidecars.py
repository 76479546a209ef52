"""Captions in files of their own, beside the clips."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wan_runtime.data.dataset import Code
from wan_runtime.data.formats.cells import NoTextError, text_of, word_for_none
from wan_runtime.data.formats.json_text import load_json
from wan_runtime.data.formats.rows import Fault, Row
from wan_runtime.data.formats.suffixes import stem, suffix
from wan_runtime.data.formats.text import MAX_BYTES, decode, invalid, keys_of, read_text
from wan_runtime.data.source import Place, Source
from wan_runtime.parallel import in_order

THREADS = 8
"""Captions fetched at a time."""
CAPTIONS_JSON = "captions.json"
"""Of diffusion-pipe: for each clip of its folder a list of captions, by the clip's file name."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What is said of a clip."""

    text: str
    file: str | None = None
    """It stands in. None: there is no such file."""
    lack: str = ""
    """Why there is none: `in/b.txt is not there`."""
    empty: bool = False
    """The file is there, and nothing stands in it."""


def read_sidecars(
    source: Source, videos: Sequence[str], there: Mapping[str, int], suffixes: Sequence[str]
) -> list[Caption]:
    """The caption of each video, from the text file of its name with the first of the suffixes that
    there is, in letters of any case. `there`: bytes of all files by path.

    Raises InputError(DATASET_INVALID) for a file that is no text."""
    alike = {(stem(path), suffix(path)): path for path in there}

    def caption(video: str) -> Caption:
        exact = [str(PurePosixPath(video).with_suffix(each)) for each in suffixes]
        others = [alike.get((stem(video), each.lower())) for each in suffixes]
        found = (path for path in (*exact, *others) if path in there)
        path = next(found, None)
        if path is None:
            return Caption("", lack=f"{exact[0]} is not there")
        if there[path] > MAX_BYTES:
            raise invalid(path, f"has {there[path]} bytes; at most {MAX_BYTES} are read")
        text = decode(path, source.read(path)).strip()
        if not text:
            return Caption("", path, f"{path} is empty", empty=True)
        if word_for_none(text):
            return Caption("", path, f"{path} says {text!r}, which stands for none")
        return Caption(text, path)

    return list(in_order(caption, videos, threads=THREADS))


def row_beside(
    number: int, video: str, caption: Caption, *, prefix: str = "", **fields: Any
) -> Row:
    """The row of a clip with its caption. `prefix`: before the caption, which then may be empty as
    in diffusion-pipe."""
    fault = None
    if caption.lack and not (caption.empty and prefix):
        fault = Fault(Code.CAPTION_EMPTY, f"has no caption: {caption.lack}")
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

    def __init__(self, source: Source, path: str) -> None:
        """Raises InputError(DATASET_INVALID)."""
        self.path = path
        content = load_json(path, read_text(source, path))
        if not isinstance(content, dict):
            raise invalid(path, 'is no object of clips: {"a.mp4": ["its caption"], …}')
        self._captions = {_composed(name): value for name, value in content.items()}
        self._asked: set[str] = set()
        self._several = 0

    def caption(self, video: str) -> Caption:
        """The first caption of a clip. Raises InputError(DATASET_INVALID)."""
        name = _composed(PurePosixPath(video).name)
        self._asked.add(name)
        if name not in self._captions:
            return Caption("", lack=f"{self.path} has no entry {name!r}")
        value = self._captions[name]
        if isinstance(value, list):
            self._several += len(value) > 1
            value = value[0] if value else None
        try:
            text = text_of(value)
        except NoTextError as error:
            raise invalid(self.path, f"{name!r} {error}") from error
        return Caption(text, self.path, "" if text else f"{self.path} has none for {name!r}")

    def notes(self) -> list[str]:
        """What stands in it and is not used."""
        notes = []
        if self._several:
            notes.append(f"of {self._several} clips, only the first caption in {self.path} is used")
        if others := [name for name in self._captions if name not in self._asked]:
            notes.append(f"left out: entries of {self.path} without a clip: {keys_of(others)}")
        return notes


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
