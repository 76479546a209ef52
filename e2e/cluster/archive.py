"""Writes container images as docker archives without an image builder.

The programs are static, so an image is a folder and a few lines of JSON. Written here, the
same content gives the same bytes, hence the same digest: `load` then knows what is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_EPOCH = "1970-01-01T00:00:00Z"


@dataclass
class Layer:
    """Files of an image, added in order, with owners and times fixed."""

    path: Path
    _tar: tarfile.TarFile = field(init=False)

    def __post_init__(self) -> None:
        self._tar = tarfile.TarFile(self.path, "w", format=tarfile.GNU_FORMAT)

    def _add(self, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
        member = tarfile.TarInfo(name.lstrip("/"))
        member.type, member.mode, member.size, member.linkname = kind, mode, len(data), link
        self._tar.addfile(member, io.BytesIO(data))

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Adds a folder."""
        self._add(name, tarfile.DIRTYPE, mode)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Adds a file."""
        self._add(name, tarfile.REGTYPE, mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Adds a symbolic link."""
        self._add(name, tarfile.SYMTYPE, 0o777, link=target)

    def close(self) -> None:
        """Ends the layer."""
        self._tar.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write(target: Path, name: str, layer: Path, settings: dict[str, Any]) -> None:
    """Writes `target`, an uncompressed docker archive of one layer, atomically."""
    digest = _sha256(layer)
    image = {
        "architecture": "amd64",
        "os": "linux",
        "created": _EPOCH,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": _EPOCH, "created_by": "e2e/cluster"}],
    }
    config = json.dumps(image, sort_keys=True).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
    work = target.with_name(f".{target.name}.new")
    with tarfile.open(work, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry, data in (
            (config_name, config),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(entry)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        member = tarfile.TarInfo(f"{digest}.tar")
        member.size = layer.stat().st_size
        with layer.open("rb") as stream:
            tar.addfile(member, stream)
    work.replace(target)


def identity(archive: Path) -> tuple[str, list[str]]:
    """What an archive holds, without reading its layers: a content key and the image names.

    The key is over the small JSON files, and those name every layer by its digest.
    """
    wanted = {"manifest.json", "index.json"}
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.name in wanted:
                stream = tar.extractfile(member)
                found[member.name] = stream.read() if stream else b""
    names: list[str] = []
    if "manifest.json" in found:
        for entry in json.loads(found["manifest.json"]):
            names += entry.get("RepoTags") or []
    elif "index.json" in found:
        for entry in json.loads(found["index.json"])["manifests"]:
            notes = entry.get("annotations", {})
            name = notes.get("io.containerd.image.name")
            names.append(name or notes.get("org.opencontainers.image.ref.name", ""))
    if not names or not all(names):
        raise ValueError(f"{archive} names no image; write it with a name and a tag")
    digest = hashlib.sha256()
    for key in sorted(found):
        digest.update(found[key])
    return digest.hexdigest(), names
