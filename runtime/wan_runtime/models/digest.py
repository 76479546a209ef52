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
    note = path.with_name(path.name + ".sha256.json")
    if stat.st_size >= SMALL and note.is_file():
        with contextlib.suppress(ValueError, OSError):
            known = json.loads(note.read_text())
            if isinstance(known, dict) and {key: known.get(key) for key in identity} == identity:
                return str(known["sha256"])
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    if stat.st_size >= SMALL:
        with contextlib.suppress(OSError):
            note.write_text(json.dumps({**identity, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


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
