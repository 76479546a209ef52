"""Which file a table means, where it writes the name otherwise than the file has it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from functools import cached_property
from itertools import islice
from pathlib import PurePosixPath
from urllib.parse import unquote

from wan_runtime.data.formats.suffixes import evicted
from wan_runtime.data.source import Source

LISTED = 100_000
"""Files that are searched for a name like one that is not there."""


class Names:
    """Finds files by the names that people and other systems write."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def find(self, path: str) -> str | None:
        """The path of the file that is meant; None if there is none, or more than one.

        A file of exactly this name, else the one whose name differs by the normal form of its
        accents (macOS writes NFD, most tables NFC) or by backslashes, which Windows writes."""
        if path.replace("\\", "/") != _slashes(path):
            path = _slashes(path)  # no store takes `in\.\a.mp4` for a key
        if self._source.size(path) is not None:
            return path
        forms = {
            unicodedata.normalize(form, each)
            for form in ("NFC", "NFD")
            for each in (path, _slashes(path))
        }
        there = [each for each in forms - {path} if self._source.size(each) is not None]
        if not there and not path.isascii():  # of each folder another form
            there = [each for each in self._alike[_plain(path)] if _same(each, path)]
        return there[0] if len(there) == 1 else None

    def hint(self, path: str) -> str:
        """What may be meant by a path that is not found, to end a sentence with; empty if nothing
        is like it."""
        if _plain(path) in self._away:
            return "; it is in iCloud only: download it first"
        pure = PurePosixPath(_slashes(path))
        keys = map(_plain, (path, pure.name, pure.stem, unquote(pure.name)))
        like = next((found for key in keys if (found := self._alike[key])), [])
        if len([each for each in like if _same(each, path)]) > 1:
            return f"; several files look like it: {', '.join(sorted(map(ascii, like)))}"
        if len(like) == 1:
            return f"; did you mean {like[0]}?"
        if like:
            return f"; files of this name are {', '.join(like[:3])}"
        if pure.parts and _plain(path) in self._folders:
            return "; it is a folder, not a file"
        return ""

    @cached_property
    def _paths(self) -> list[str]:
        return [found.path for found in islice(self._source.files(), LISTED)]

    @cached_property
    def _alike(self) -> dict[str, list[str]]:
        """Files by their plain path, and by their plain name, with and without suffix."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            pure = PurePosixPath(path)
            for key in dict.fromkeys((path, pure.name, str(pure.with_suffix("")), pure.stem)):
                found[_plain(key)].append(path)
        return found

    @cached_property
    def _away(self) -> set[str]:
        return {_plain(each) for path in self._paths if (each := evicted(path)) is not None}

    @cached_property
    def _folders(self) -> set[str]:
        return {_plain(str(each)) for path in self._paths for each in PurePosixPath(path).parents}


def _slashes(path: str) -> str:
    return str(PurePosixPath(path.replace("\\", "/")))


def _plain(path: str) -> str:
    """The path as people read it: without regard to case, accents' form and kind of slash."""
    text = unicodedata.normalize("NFC", _slashes(path)).casefold()
    return "/".join(part.strip() for part in text.split("/"))


def _same(one: str, other: str) -> bool:
    one, other = (unicodedata.normalize("NFC", _slashes(each)) for each in (one, other))
    return one == other
