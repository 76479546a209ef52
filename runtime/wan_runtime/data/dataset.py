"""The checked dataset, as `prepare` commits it and later steps read it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import ValidationError

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.job import Contract, ManifestRef

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
    """Opens, but frames that are needed do not decode."""
    TOO_SHORT = "TooShort"
    TOO_SMALL = "TooSmall"
    ROTATION_UNSUPPORTED = "RotationUnsupported"
    """Its metadata ask for a turn that is no multiple of 90 degrees."""
    CAPTION_EMPTY = "CaptionEmpty"
    DUPLICATE_ROW = "DuplicateRow"
    """The same file and caption stand in an earlier row."""
    DUPLICATE_CLIP = "DuplicateClip"
    """An earlier row has a clip of the same bytes."""


class Clip(Contract):
    """One row of the metadata file with its verdict."""

    row: int
    """Counted from 1, without the header."""
    path: str
    """Relative to the dataset's source."""
    uri: str
    """s3://bucket/key"""
    key: str
    """In the bucket of the source: `store.for_uri(clip.uri).download(clip.key, path, ...)`."""
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
    """Pixels as displayed, rotation applied."""
    height: int | None = None
    fps: float | None = None
    """Average, of the file."""
    frames: int | None = None
    """At the target rate, as far as it was decoded: at least the number wanted if accepted."""
    duration: float | None = None
    """Seconds, as the container states."""


class Dataset(Contract):
    """dataset.json: all rows in the order of the metadata file."""

    version: Literal[1] = 1
    source: str
    metadata: str
    """Name of the metadata file that was read."""
    frames: int
    fps: float
    width: int
    height: int
    clips: tuple[Clip, ...]

    @property
    def train(self) -> list[Clip]:
        """Clips to train on."""
        return [clip for clip in self.clips if clip.split == "Train"]

    @property
    def held_out(self) -> list[Clip]:
        """Clips of recordings that training never sees."""
        return [clip for clip in self.clips if clip.split == "HeldOut"]

    @property
    def rejected(self) -> list[Clip]:
        """Clips that failed a check."""
        return [clip for clip in self.clips if clip.code is not Code.ACCEPTED]


def load_dataset(store: Store, ref: ManifestRef) -> Dataset:
    """Read the dataset that `prepare` committed. Raises ArtifactCorrupt, ObjectNotFound."""
    listed = {entry.path: entry for entry in manifest.load(store, ref).files}
    if FILE not in listed:
        raise ArtifactCorrupt(f"{ref.uri} lists no {FILE}: it is not a dataset")
    source = store.for_uri(ref.uri)
    key = store.parse(ref.uri)[1].removesuffix(manifest.NAME) + FILE
    data = source.get_bytes(key)
    if manifest.digest(data) != listed[FILE].sha256:
        raise ArtifactCorrupt(f"{source.uri(key)} differs from the checksum in {ref.uri}")
    try:
        return Dataset.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise ArtifactCorrupt(f"{source.uri(key)} is no dataset of ours: {first}") from error
