"""Digests of model files. 60 GB take minutes to hash, so each file's digest is kept beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

CHUNK = 1 << 24
SMALL = 1 << 26
"""Bytes below which hashing is quicker than trusting a note."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. A large file's is noted in `<name>.sha256.json` and reused
    while its size and modification time stand; a read-only folder is hashed again each time."""
    stat = path.stat()
    identity = {"bytes": stat.st_size, "mtimeNs": stat.st_mtime_ns}
    if stat.st_size >= SMALL and _note_of(path).is_file():
        with contextlib.suppress(ValueError, OSError):
            known = json.loads(_note_of(path).read_text())
            if isinstance(known, dict) and {key: known.get(key) for key in identity} == identity:
                return str(known["sha256"])
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    note(path, digest.hexdigest())
    return digest.hexdigest()


def note(path: Path, sha256: str) -> None:
    """Keep the digest of a large file that was just read or written."""
    stat = path.stat()
    if stat.st_size >= SMALL:
        content = {"bytes": stat.st_size, "mtimeNs": stat.st_mtime_ns, "sha256": sha256}
        with contextlib.suppress(OSError):
            _note_of(path).write_text(json.dumps(content))


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the canonical list of (name, bytes, sha256): one digest for a sharded model or a
    tokenizer.
    """
    entries = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in paths
    ]
    return hashlib.sha256(canonical_json(entries)).hexdigest()


def canonical_json(value: object) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
