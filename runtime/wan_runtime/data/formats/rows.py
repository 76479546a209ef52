"""What every format is read into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from wan_runtime.contract.dataset import Bucket, Columns
from wan_runtime.data.dataset import Code
from wan_runtime.data.formats.cells import NoTextError, caption_of, cause_of_none, text_of
from wan_runtime.data.formats.text import invalid
from wan_runtime.data.source import Place, Source

CODES = {
    "video": Code.PATH_INVALID,
    "prompt": Code.CAPTION_INVALID,
    "first_frame": Code.FIRST_FRAME_INVALID,
    "control_video": Code.CONTROL_VIDEO_INVALID,
    "vace_video": Code.VACE_VIDEO_INVALID,
}
"""The verdict on a row whose column holds no text."""


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


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row by itself."""

    code: Code
    message: str


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
    fault: Fault | None = None
    """Why it cannot be used, if that is seen already."""

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
    notes: tuple[str, ...] = ()
    """What was left out, or read in a way that may surprise, for people."""
    numbered: bool = False
    """Whether people find a clip by the number of its row: in a table, not in a folder."""

    def digest(self) -> str:
        """Hex SHA-256 of all rows."""
        text = json.dumps([asdict(row) for row in self.rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Read(Protocol):
    """A format's reader."""

    def __call__(self, source: Source, columns: Columns) -> Listing:
        """Raises InputError(DATASET_NOT_FOUND, DATASET_INVALID, DATASET_EMPTY)."""


def make_row(
    number: int,
    where: str,
    record: Mapping[str, Any],
    columns: Columns,
    *,
    video: Place | None = None,
    wanted: Wanted | None = None,
) -> Row:
    """The row of a record. `where`: it stands, for people. `video`: of a record that names none.

    Raises InputError(DATASET_INVALID) for a recording that is no text."""
    texts, fault = {}, None
    for field, column in columns.model_dump().items():
        value = record.get(column)
        try:
            texts[field] = caption_of(value) if field == "prompt" else text_of(value)
        except NoTextError as error:
            if field not in CODES:
                raise invalid(where, f"{column} {error}") from error
            fault, texts[field] = fault or Fault(CODES[field], f"its {column} {error}"), ""
        if field == "prompt" and (cause := cause_of_none(value)):
            fault = fault or Fault(Code.CAPTION_EMPTY, f"has no caption: {cause}")
    place = video or Place(texts["video"])
    return Row(
        number=number,
        video=place,
        prompt=texts["prompt"],
        source=texts["source"] or place.path,
        first_frame=texts["first_frame"],
        control_video=texts["control_video"],
        vace_video=texts["vace_video"],
        wanted=wanted,
        fault=fault,
    )
