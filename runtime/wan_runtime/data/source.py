"""Where a dataset's files are: below a prefix of the store, or in a folder of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from wan_runtime.artifacts.store import ObjectInfo, ObjectNotFound, Store, file_sha256
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError

MAX_NAME = 255
MAX_PATH = 900
"""Bytes. A key of S3 has 1024, dataset.source with it."""
ADDRESS = "://"
"""What a URL has, and no path."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file of the dataset, or a member of one."""

    path: str
    """As the dataset names it; relative to its root, if it is well formed."""
    archive: str | None = None
    """The archive that holds it."""
    offset: int = 0
    """Offset of a member's first byte in the archive."""
    bytes: int | None = None
    """Size of a member, in bytes."""

    @property
    def file(self) -> str:
        """The file to read: the archive, for a member."""
        return self.archive or self.path


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there."""

    path: str
    bytes: int


class Source(Protocol):
    """Files by their path below the dataset's root. Safe to share between threads."""

    def uri(self, path: str) -> str:
        """Address of a file, for people."""

    def key(self, path: str) -> str:
        """The file's key in its bucket, or its path on this machine."""

    def files(self, below: str = "") -> Iterator[Found]:
        """All files of the folder `below` and the folders in it, in order of their paths."""

    def beside(self) -> list[str]:
        """Names of the folders in the one that the dataset's own is in."""

    def size(self, path: str) -> int | None:
        """Bytes of a file; None if there is none."""

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """A small file, or `length` bytes of a file. Raises ObjectNotFound."""

    def opened(
        self, place: Place, scratch: Path
    ) -> AbstractContextManager[tuple[Path, ObjectInfo]]:
        """The file on disk, at `scratch` if it has to be brought. Raises ObjectNotFound."""


class StoreSource:
    """Objects below a prefix."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def uri(self, path: str) -> str:
        return self._store.uri(self.key(path))

    def key(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, path) if part)

    def files(self, below: str = "") -> Iterator[Found]:
        start = self.key("") and f"{self.key('')}/"
        folder = self.key(below) and f"{self.key(below)}/"
        for entry in self._store.list(folder):
            if not entry.key.endswith("/"):
                yield Found(entry.key.removeprefix(start), entry.bytes)

    def beside(self) -> list[str]:
        above, slash, _ = self._prefix.rpartition("/")
        return list(self._store.folders(f"{above}{slash}"))

    def size(self, path: str) -> int | None:
        found = self._store.stat(self.key(path))
        return None if found is None else found.bytes

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        if length is None:
            return self._store.get_bytes(self.key(path))
        return self._store.get_range(self.key(path), offset, length)

    @contextmanager
    def opened(self, place: Place, scratch: Path) -> Iterator[tuple[Path, ObjectInfo]]:
        try:
            offset = None if place.archive is None else place.offset
            key = self.key(place.file)
            yield scratch, self._store.download(key, scratch, bytes=place.bytes, offset=offset)
        finally:
            scratch.unlink(missing_ok=True)


class FolderSource:
    """Files of a folder on this machine. Links that lead out of it are refused, not followed: a
    folder from somebody else could have any file of this machine uploaded. Hidden ones do not
    count."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def uri(self, path: str) -> str:
        return self.key(path)

    def key(self, path: str) -> str:
        return str(self._folder / path)

    def files(self, below: str = "") -> Iterator[Found]:
        found = (path.relative_to(self._folder) for path in (self._folder / below).rglob("*"))
        for path in sorted(str(PurePosixPath(path)) for path in found):
            if not path.isprintable():
                _refuse_other_encodings(path)
            size = self.size(path)
            if size is not None:
                yield Found(path, size)

    def beside(self) -> list[str]:
        return [each.name for each in self._folder.parent.iterdir() if each.is_dir()]

    def size(self, path: str) -> int | None:
        try:
            file = (self._folder / path).resolve()
            if not file.is_relative_to(self._folder):
                if any(part.startswith(".") for part in PurePosixPath(path).parts):
                    return None
                raise InputError(
                    Reason.DATASET_INVALID,
                    f"{printable(path)} is a link that leads out of the folder: put the file "
                    "itself there",
                )
            return file.stat().st_size if file.is_file() else None
        except (OSError, RuntimeError):  # a name that is too long, links in a circle
            return None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self._present(path)
        with (self._folder / path).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    @contextmanager
    def opened(self, place: Place, scratch: Path) -> Iterator[tuple[Path, ObjectInfo]]:
        size = self._present(place.file)
        path = self._folder / place.file
        if place.archive is None:
            yield path, ObjectInfo(str(path), size, file_sha256(path))
            return
        try:
            scratch.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(self.read(place.file, place.offset, place.bytes))
            yield scratch, ObjectInfo(str(path), place.bytes or 0, file_sha256(scratch))
        finally:
            scratch.unlink(missing_ok=True)

    def _present(self, path: str) -> int:
        size = self.size(path)
        if size is None:
            raise ObjectNotFound(self.uri(path))
        return size


def _refuse_other_encodings(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            Reason.DATASET_INVALID, f"the file name {path!a} is not UTF-8: rename it"
        ) from error


def printable(path: str) -> str:
    """A path for people: in quotes, escaped, if it holds line breaks and the like."""
    return path if path.isprintable() else repr(path)


def counted(number: int, noun: str) -> str:
    """`1 clip`, `2 clips`"""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def path_fault(path: str) -> str | None:
    """What is wrong with a path that a dataset names; None if it stays below the root."""
    pure = PurePosixPath(path)
    if not pure.parts:
        return "names no file"
    try:
        sizes = [len(part.encode()) for part in pure.parts]
    except UnicodeEncodeError:
        return "is not UTF-8: rename it"
    if ADDRESS in path:
        return "is an address, not relative to dataset.source: put the file there"
    if pure.is_absolute() or re.match(r"[A-Za-z]:[\\/]|\\", path):
        return "is not relative to dataset.source, but a path of some machine"
    if ".." in re.split(r"[\\/]", path) or "\0" in path:
        return "leaves dataset.source"
    if max(sizes) > MAX_NAME or len(path.encode()) > MAX_PATH:
        return f"is no path: a name has at most {MAX_NAME} bytes, a path {MAX_PATH}"
    return None
