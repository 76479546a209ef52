"""The checked dataset, as `prepare` commits it and later steps read it."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Literal

from wan_runtime.artifacts import documents
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.job import ManifestRef

FILE = "dataset.json"


class Code(StrEnum):
    """The verdict on a clip. Closed; part of the report's format."""

    ACCEPTED = "Accepted"
    PATH_INVALID = "PathInvalid"
    """Empty, absolute, or leaves the dataset's folder."""
    NOT_FOUND = "NotFound"
    UNREADABLE = "Unreadable"
    """Does not open as a video."""
    UNDECODABLE = "Undecodable"
    """Opens, but frames that are needed do not decode, or their form is not handled."""
    TOO_SHORT = "TooShort"
    TOO_SMALL = "TooSmall"
    ROTATION_UNSUPPORTED = "RotationUnsupported"
    """Its metadata ask for a turn that is no multiple of 90 degrees, or slant it."""
    CAPTION_EMPTY = "CaptionEmpty"
    CAPTION_INVALID = "CaptionInvalid"
    """It is a list or an object, holds half a character, is a spreadsheet's error, or its file is
    no text in UTF-8."""
    FIRST_FRAME_INVALID = "FirstFrameInvalid"
    CONTROL_VIDEO_INVALID = "ControlVideoInvalid"
    VACE_VIDEO_INVALID = "VaceVideoInvalid"
    """The file that the column names is missing, or is no picture, or no video."""
    DUPLICATE_ROW = "DuplicateRow"
    """The same file and caption stand in an earlier row."""
    DUPLICATE_CLIP = "DuplicateClip"
    """An earlier row has a clip of the same bytes."""


class Concern(StrEnum):
    """What is odd about a clip that is trained on all the same. Closed."""

    CAPTION_TOO_LONG = "CaptionTooLong"
    """The text encoder reads 512 tokens; the rest is lost."""
    SCENE_CUT = "SceneCut"
    """The model learns to jump from one scene to another."""
    NEAR_STATIC = "NearStatic"
    """The model learns not to move."""
    REPEATED_FRAMES = "RepeatedFrames"
    """Its rate is below the target's, or it stalls: the model learns to stutter."""
    BLACK_BARS = "BlackBars"
    """The model learns to paint them."""
    CROPPED = "Cropped"
    """Less than half of its picture is in the bucket: no bucket has its shape."""
    INTERLACED = "Interlaced"
    """Holds two times in each frame; the first of them is trained on."""
    HDR = "Hdr"
    """Its highlights are drawn together to what BT.709 can show."""
    NEAR_DUPLICATE = "NearDuplicate"
    """Shows a picture that a clip of another recording shows too."""


class Warned(Contract):
    """One concern, with the numbers."""

    code: Concern
    message: str


class StoredFile(Contract):
    """A file beside a clip."""

    path: str
    """Relative to the dataset's source."""
    uri: str
    key: str
    bytes: int
    sha256: str


class Clip(Contract):
    """One row of the dataset with its verdict."""

    row: int
    """Counted from 1, without the header."""
    path: str
    """Relative to the dataset's source; of a member of an archive, below the archive's."""
    uri: str
    """s3://bucket/key of the file, or of the archive that holds it."""
    key: str
    """In the bucket of the source. `bring` fetches it."""
    offset: int | None = None
    """Offset of the clip's first byte in the archive, if it is a member of one."""
    prompt: str
    source: str
    """The recording it was cut from."""
    code: Code
    message: str = ""
    """Why it was rejected, with the numbers."""
    split: Literal["Train", "HeldOut"] | None = None
    """None: rejected."""
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    """Pixels as stored, turned upright."""
    height: int | None = None
    fps: float | None = None
    """Average, of the file."""
    frames: int | None = None
    """Frames at the target rate, as far as the clip was decoded: at least the number wanted if it
    is accepted."""
    duration: float | None = None
    """Seconds, as the container states."""
    starts: tuple[int, ...] = (0,)
    """First frame of each window that is trained on, at the target rate."""
    bucket: Bucket | None = None
    """What an accepted clip is cut to."""
    warnings: tuple[Warned, ...] = ()
    """Warnings about an accepted clip."""
    first_frame: StoredFile | None = None
    """Picture to start from instead of the clip's own first frame."""
    control_video: StoredFile | None = None
    vace_video: StoredFile | None = None
    """Checked and recorded; no preset is conditioned on these two."""

    @property
    def size(self) -> Bucket:
        """The bucket of an accepted clip."""
        assert self.bucket is not None, f"{self.path} was not accepted"
        return self.bucket


class Dataset(Contract):
    """dataset.json: all rows in their order."""

    version: Literal[1] = 1
    source: str
    metadata: str
    """What the rows were read from: `metadata.csv`."""
    fps: float
    buckets: tuple[Bucket, ...]
    clips: tuple[Clip, ...]
    notes: tuple[str, ...] = ()
    """What the reader of the format left out, or read in a way that may surprise."""

    @property
    def train(self) -> list[Clip]:
        """Clips to train on."""
        return [clip for clip in self.clips if clip.split == "Train"]

    @property
    def held_out(self) -> list[Clip]:
        """Clips of recordings that training never sees."""
        return [clip for clip in self.clips if clip.split == "HeldOut"]

    @property
    def windows(self) -> dict[Bucket, int]:
        """How many windows train in each bucket."""
        counted = Counter(dict.fromkeys(self.buckets, 0))
        for clip in self.train:
            counted[clip.size] += len(clip.starts)
        return dict(counted)

    @property
    def rejected(self) -> list[Clip]:
        """Clips that failed a check."""
        return [clip for clip in self.clips if clip.code is not Code.ACCEPTED]

    @property
    def warned(self) -> list[Clip]:
        """Clips that are trained on, or held out, although something is odd."""
        return [clip for clip in self.clips if clip.code is Code.ACCEPTED and clip.warnings]


def load_dataset(store: Store, ref: ManifestRef) -> Dataset:
    """Read the dataset that `prepare` committed. Raises ArtifactCorrupt, ObjectNotFound."""
    return documents.read(store, ref, FILE, Dataset)


def bring(store: Store, file: Clip | StoredFile, path: Path) -> None:
    """Download an accepted clip, or a file beside one, and compare it with what was checked.

    Raises ArtifactCorrupt, ObjectNotFound."""
    offset = file.offset if isinstance(file, Clip) else None
    store.for_uri(file.uri).download(
        file.key, path, sha256=file.sha256, bytes=file.bytes, offset=offset
    )
