"""The runtime's object store as a folder, for a machine without an S3 server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from wan_runtime.artifacts.store import ObjectInfo, ObjectNotFound, Store, file_sha256

BUCKET = "wan"


class FolderStore(Store):
    """Objects below FOLDER."""

    def __init__(self, folder: Path) -> None:
        self.bucket = BUCKET
        self._objects = folder

    def for_uri(self, uri: str) -> FolderStore:
        return self

    def put_bytes(
        self, key: str, data: bytes, *, content_type: str = "application/octet-stream"
    ) -> ObjectInfo:
        path = self.path(key)
        partial = path.with_name(f"{path.name}.{os.getpid()}")  # parts may store one caption
        partial.write_bytes(data)
        partial.replace(path)
        return self._info(key)

    def put_file(self, key: str, path: Path, *, sha256: str | None = None) -> ObjectInfo:
        shutil.copyfile(path, self.path(key))
        return self._info(key)

    def get_bytes(self, key: str) -> bytes:
        return self._found(key).read_bytes()

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        bytes: int | None = None,
        offset: int | None = None,
    ) -> ObjectInfo:
        assert offset is None, "no archives here"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._found(key), path)
        info = self.stat(key)
        assert info is not None
        return info

    def stat(self, key: str) -> ObjectInfo | None:
        path = self._objects / key
        if not path.is_file():
            return None
        return self._info(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for path in sorted(self._objects.rglob("*")):
            key = str(path.relative_to(self._objects))
            if path.is_file() and key.startswith(prefix):
                yield ObjectInfo(key, path.stat().st_size, None)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self._objects / key).unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """Where an object is, or may be put."""
        path = self._objects / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _found(self, key: str) -> Path:
        path = self._objects / key
        if not path.is_file():
            raise ObjectNotFound(self.uri(key))
        return path

    def _info(self, key: str) -> ObjectInfo:
        path = self._objects / key
        return ObjectInfo(key, path.stat().st_size, file_sha256(path))
