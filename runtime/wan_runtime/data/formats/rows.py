"""What every format is read into."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Protocol

from wan_runtime.data.source import Place, Source
from wan_runtime.errors import InputError
from wan_runtime.job import Bucket, Columns, Reason

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"})
MAX_BYTES = 64 * 2**20
"""Of one metadata file."""
LOOKED_AT = 1000
"""Files that an error message counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The sizes that a dataset itself states for some of its clips."""

    where: str
    """It states them, for people: `set.toml, dataset 1`."""
    width: int | None = None
    height: int | None = None
    """None: any."""
    any_shape: bool = False
    """The two only bound the area."""
    lengths: tuple[int, ...] = ()
    """In frames. Empty: any."""

    def of_size(self, bucket: Bucket) -> bool:
        """Whether the bucket has the width and height."""
        if self.width is None or self.height is None:
            return True
        if self.any_shape:
            return bucket.width * bucket.height <= self.width * self.height
        return (bucket.width, bucket.height) == (self.width, self.height)

    def missing(self, buckets: Sequence[Bucket]) -> str:
        """What no bucket has, as it is stated; empty if there is nothing."""
        sized = [bucket for bucket in buckets if self.of_size(bucket)]
        if not sized:
            return f"resolution {self.width}x{self.height}"
        lost = sorted(set(self.lengths) - {bucket.frames for bucket in sized})
        return f"target_frames {', '.join(map(str, lost))}" if lost else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clip as the dataset states it. Nothing is checked yet."""

    number: int
    """Counted from 1, without a header."""
    video: Place
    prompt: str
    """Empty if it is missing, NaN or blank."""
    source: str
    """The recording; the video's own path if the dataset does not say."""
    first_frame: str = ""
    """Path of a picture; empty if there is none."""
    control_video: str = ""
    vace_video: str = ""
    wanted: Wanted | None = None
    """None: the dataset states no size."""

    def allowed(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """Those that the dataset lets the clip be cut to."""
        wanted = self.wanted or Wanted(where="")
        return [
            bucket
            for bucket in buckets
            if wanted.of_size(bucket) and bucket.frames in (wanted.lengths or (bucket.frames,))
        ]


@dataclass(frozen=True, slots=True)
class Listing:
    """A dataset as it is stated."""

    name: str
    """What was read, for people: `metadata.csv`."""
    rows: tuple[Row, ...]
    files: tuple[str, ...]
    """Paths of all that was read besides the clips."""

    def digest(self) -> str:
        """Hex SHA-256 of all rows."""
        text = json.dumps([asdict(row) for row in self.rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Read(Protocol):
    """A format's reader."""

    def __call__(self, source: Source, columns: Columns) -> Listing:
        """Raises InputError(DATASET_NOT_FOUND, DATASET_INVALID, DATASET_EMPTY)."""


def read_text(source: Source, path: str) -> str:
    """A text file in UTF-8. Raises InputError(DATASET_INVALID), ObjectNotFound."""
    size = source.size(path)
    if size is not None and size > MAX_BYTES:
        raise invalid(path, f"has {size} bytes; at most {MAX_BYTES} are read")
    return decode(path, source.read(path))


def decode(name: str, data: bytes) -> str:
    """UTF-8 with or without a byte order mark. Raises InputError(DATASET_INVALID)."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise invalid(name, f"is not UTF-8 in line {line}") from error


def plain(value: object) -> str:
    """Text of a cell; empty for what is no text or number."""
    # pandas writes a missing caption as NaN, into CSV on request as the word.
    if isinstance(value, str):
        text = value.strip()
        return "" if text.lower() == "nan" else text
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def is_video(path: str) -> bool:
    """By its suffix. Nothing hidden is, such as the `._a.mp4` that macOS leaves beside `a.mp4`."""
    pure = PurePosixPath(path)
    hidden = any(part.startswith(".") for part in pure.parts)
    return pure.suffix.lower() in VIDEO_SUFFIXES and not hidden


def beside(path: str, suffix: str) -> str:
    """The path with another suffix: `clips/a.mp4` -> `clips/a.txt`."""
    return str(PurePosixPath(path).with_suffix(suffix))


def invalid(name: str, message: str) -> InputError:
    """The metadata are wrong."""
    return InputError(Reason.DATASET_INVALID, f"{name} {message}")


def not_found(source: Source, wanted: str) -> InputError:
    """There is no dataset of the format; says what there is instead."""
    paths = [found.path for found in islice(source.files(), LOOKED_AT)]
    return InputError(
        Reason.DATASET_NOT_FOUND,
        f"{source.uri('')} holds no {wanted}: check dataset.source and dataset.format. "
        f"It holds {inventory(paths)}",
    )


def inventory(paths: Iterable[str]) -> str:
    """`12 .mp4, 12 .txt, 1 .toml`, and the format that this looks like."""
    paths = list(paths)
    if not paths:
        return "nothing at all"
    kinds = Counter(PurePosixPath(path).suffix.lower() or "without suffix" for path in paths)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    more = " among the first files" if len(paths) == LOOKED_AT else ""
    names = {path for path in paths if "/" not in path}
    if names & {"metadata.csv", "metadata.json", "metadata.jsonl"}:
        guess = "DiffSynth"
    elif any(name.endswith(".toml") for name in names):
        guess = "Musubi"
    elif kinds[".tar"]:
        guess = "WebDataset"
    elif kinds[".txt"] and any(is_video(path) for path in paths):
        guess = "Folder"
    else:
        return counts + more
    return f"{counts}{more}: that looks like dataset.format: {guess}"
