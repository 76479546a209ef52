"""Digests of model files. 60 GB take minutes to hash: what is as it was is not read again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from wan_runtime import heartbeat
from wan_runtime.contract.base import Contract

CHUNK = 1 << 24
SMALL = 1 << 26
"""Bytes below which hashing is quicker than trusting a note."""
Count = Callable[[int], None]
"""Takes the number of bytes that were moved or read since its last call."""


def uncounted(_: int) -> None:
    """Ignore the number of bytes: for work whose progress is not reported."""


class Stamp(Contract):
    """Tells that a file is as it was, without reading it."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    """Set by the kernel alone: a file that is put in the place of another, with its size and its
    time of modification, has another. (Inode numbers change with each mount of some volumes.)"""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises OSError."""
        stat = path.stat()
        return cls(bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, ctime_ns=stat.st_ctime_ns)


class Note(Contract):
    """`<name>.sha256.json`, beside a large file."""

    stamp: Stamp
    sha256: str


def file_digest(path: Path, count: Count = uncounted) -> str:
    """SHA-256 of a file's bytes, in hex. A large file's is noted beside it, if the folder can be
    written to, and reused while the file is as it was."""
    stamp = Stamp.of(path)
    if stamp.bytes >= SMALL:
        with contextlib.suppress(ValidationError, OSError):
            known = Note.model_validate_json(_note_of(path).read_bytes())
            if known.stamp == stamp:
                count(stamp.bytes)
                return known.sha256
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            heartbeat.beat()
            count(len(chunk))
    note(path, stamp, digest.hexdigest())
    return digest.hexdigest()


def note(path: Path, stamp: Stamp, sha256: str) -> None:
    """Keep the digest of a large file. `stamp`: from before it was read."""
    if stamp.bytes >= SMALL:
        with contextlib.suppress(OSError):
            _note_of(path).write_text(Note(stamp=stamp, sha256=sha256).model_dump_json())


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def files_digest(paths: Iterable[Path], known: Mapping[Path, tuple[int, str]] | None = None) -> str:
    """SHA-256 of the canonical list of (name, bytes, sha256): one digest for a sharded model or a
    tokenizer. `known`: bytes and SHA-256 of files that need not be read, nor be there.
    """
    entries = []
    for path in paths:
        size, sha256 = (known or {}).get(path) or (path.stat().st_size, file_digest(path))
        entries.append({"name": path.name, "bytes": size, "sha256": sha256})
    return hashlib.sha256(canonical_json(entries)).hexdigest()


def canonical_json(value: object) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
