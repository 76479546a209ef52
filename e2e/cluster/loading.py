"""Imports image archives into our containerd, and skips what is there."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import IO

from cluster import archive
from cluster.errors import ClusterError
from cluster.layout import Layout
from cluster.progress import say
from cluster.shell import run


def _ctr(
    layout: Layout, *words: str | Path, timeout: float = 1200, stdin: IO[bytes] | None = None
) -> str:
    argv = ["ctr", "--address", layout.containerd_socket, "-n", "k8s.io", *words]
    return run(argv, timeout=timeout, stdin=stdin).stdout


def present(layout: Layout) -> dict[str, str]:
    """Image names and the digests they stand for."""
    rows = _ctr(layout, "images", "list").splitlines()[1:]
    return {row.split()[0]: row.split()[2] for row in rows if len(row.split()) > 2}


def blobs(layout: Layout) -> set[str]:
    """Digests of the layers and manifests that containerd holds."""
    return set(_ctr(layout, "content", "list", "--quiet").split())


def load_layout(layout: Layout, folder: Path, name: str) -> None:
    """Imports an OCI image layout as the image `name`; blobs that containerd holds may lack."""
    index = folder / "index.json"
    described = json.loads(index.read_text())
    (image,) = described["manifests"]
    image["annotations"] = {"io.containerd.image.name": name}
    index.write_text(json.dumps(described))
    words = ["tar", "-C", str(folder), "-cf", "-", "oci-layout", "index.json", "blobs"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as archive:
        _ctr(layout, "images", "import", "--snapshotter", "overlayfs", "-", stdin=archive.stdout)
    if name not in present(layout):
        raise ClusterError(f"{name} was imported, yet containerd has it not")


def qualified(name: str) -> str:
    """The name as containerd keeps it: with a registry and a tag."""
    head, slash, _ = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def load(layout: Layout, path: Path) -> list[str]:
    """Imports an archive unless its images are there already; returns their names."""
    if not path.exists():
        raise ClusterError(f"{path}: no such image archive")
    try:
        key, names = archive.identity(path)
    except (OSError, ValueError, KeyError) as error:
        raise ClusterError(f"{path} is not an image archive: {error}") from error
    names = [qualified(name) for name in names]
    record = layout.state / "images" / f"{key}.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    here = present(layout)
    if known and all(here.get(name) == known.get(name) for name in names):
        return names
    began = time.monotonic()
    _ctr(layout, "images", "import", "--snapshotter", "overlayfs", path)
    here = present(layout)
    if lost := [name for name in names if name not in here]:
        raise ClusterError(f"{path} was imported, yet containerd has no {', '.join(lost)}")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({name: here[name] for name in names}))
    megabytes = path.stat().st_size / 1e6
    say(f"loaded {', '.join(names)} ({megabytes:.0f} MB, {time.monotonic() - began:.1f} s)")
    return names
