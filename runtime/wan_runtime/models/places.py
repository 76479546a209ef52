"""Where a base model is brought from: a mounted folder or an s3:// prefix, read in ranges."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models.digest import Count, Stamp, canonical_json
from wan_runtime.models.headers import Header, joined
from wan_runtime.models.shapes import header_of
from wan_runtime.presets import Preset


class Place(ABC):
    """A folder with files of weights."""

    where: str
    """As the user named it."""
    sizes: Mapping[str, int]
    """Path below it -> bytes."""
    is_file: bool
    """It is one file, where a folder is wanted: `sizes` has that one."""

    @abstractmethod
    def read(self, name: str, offset: int, length: int) -> bytes:
        """A range of a file; fewer bytes at its end."""

    @abstractmethod
    def naming(self, folder: str) -> str:
        """How the spec names a folder in it; of an empty path, the folder that it is in."""

    def header(self, name: str) -> Header:
        """Header of one file. Raises InputError(MODEL_INVALID)."""

        def read(offset: int, length: int) -> bytes:
            return self.read(name, offset, length)

        return header_of(read, self.sizes[name], name)

    def headers(self, names: Iterable[str]) -> Header:
        """Header of the shards of one model, merged. Raises InputError(MODEL_INVALID)."""
        return joined({name: self.header(name) for name in names})


@dataclass(frozen=True)
class Volume(Place):
    """A mounted folder."""

    folder: Path
    where: str
    sizes: Mapping[str, int]
    is_file: bool = False
    dangling: tuple[str, ...] = ()
    """Links in it that lead nowhere."""

    @classmethod
    def list(cls, folder: Path) -> Volume:
        """Raises InputError(MODEL_NOT_FOUND)."""
        if folder.is_file():
            sizes = {folder.name: folder.stat().st_size}
            return cls(folder.parent, str(folder), sizes, is_file=True)
        if not folder.is_dir():
            raise InputError(
                Reason.MODEL_NOT_FOUND, f"model.path {folder} is not a folder in the pod"
            )
        sizes, dangling = {}, []
        for path in sorted(_files(folder)):
            name = path.relative_to(folder).as_posix()
            if path.is_file():
                sizes[name] = path.stat().st_size
            elif path.is_symlink() and not path.exists():
                dangling.append(name)
        return cls(folder, str(folder), sizes, dangling=tuple(dangling))

    def read(self, name: str, offset: int, length: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def naming(self, folder: str) -> str:
        field = "model.source.persistentVolumeClaim.path"
        return f"add /{folder} to {field}" if folder else f"leave the last folder off {field}"

    def stamps(self, names: Iterable[str]) -> dict[str, Stamp]:
        """Stamps of files, by path."""
        return {name: Stamp.of(self.folder / name) for name in names}


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All paths below a folder that are no folders. Links to folders are followed, but not in
    circles: people link experts into one folder.
    """
    here = folder.resolve()
    if here in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, above | {here})
        else:
            yield path


@dataclass(frozen=True)
class Source(Place):
    """What lies below an s3:// prefix."""

    bucket: Store
    prefix: str
    """Prefix of the keys, with the slash; empty at the bucket's root."""
    where: str
    sizes: Mapping[str, int]
    tags: Mapping[str, str]
    """Path -> ETag"""
    is_file: bool = False

    @classmethod
    def list(cls, store: Store, uri: str) -> Source:
        """Raises InputError(MODEL_NOT_FOUND)."""
        try:
            key = store.parse(uri)[1]
        except ValueError as error:
            raise InputError(
                Reason.MODEL_NOT_FOUND, f"model.source {uri} is not s3://bucket/folder"
            ) from error
        below, bucket = f"{key}/" if key else "", store.for_uri(uri)
        found = {
            entry.key.removeprefix(below): entry
            for entry in bucket.list(below)
            # Consoles leave markers of folders; no name may lead out of the folder that it goes to.
            if not entry.key.endswith("/") and ".." not in entry.key.split("/")
        }
        single = bucket.stat(key) if key and not found else None
        if single is not None:
            folder, _, name = key.rpartition("/")
            prefix = f"{folder}/" if folder else ""
            return cls(bucket, prefix, uri, {name: single.bytes}, {name: ""}, is_file=True)
        if not found:
            raise InputError(Reason.MODEL_NOT_FOUND, f"there is nothing below {uri}")
        return cls(
            bucket,
            below,
            uri,
            {name: entry.bytes for name, entry in found.items()},
            {name: entry.etag or "" for name, entry in found.items()},
        )

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self.bucket.get_range(self.prefix + name, offset, length)

    def naming(self, folder: str) -> str:
        parent = self.prefix.rstrip("/").rpartition("/")[0]
        key = self.prefix + folder if folder else parent
        return f"set model.source.s3 to {self.bucket.uri(key)}"

    def address(self, name: str) -> str:
        """s3:// URI of a file."""
        return self.bucket.uri(self.prefix + name)

    def fingerprint(self, preset: Preset) -> str:
        """Changes with every upload, so that an import stands for what is there now."""
        objects = {name: (size, self.tags[name]) for name, size in self.sizes.items()}
        return hashlib.sha256(canonical_json([preset.name, self.where, objects])).hexdigest()

    def sha256(self, name: str, count: Count) -> str:
        """SHA-256 of a file, which is read once, from start to end."""
        digest = hashlib.sha256()

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            count(len(chunk))

        self.bucket.stream(self.prefix + name, take)
        return digest.hexdigest()
