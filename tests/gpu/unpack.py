"""Unpack the archives that bundle.py made, on the GPU machine, and print the environment in which
its tree runs.

    tar -xf wan-gpu-1-of-3.tar unpack.py
    eval "$(python3 unpack.py wan-gpu-*.tar --into /opt/wan)" && cd /opt/wan/tree

Archives may come one by one: those that are missing are named. What is there of the same name is
replaced. Every user must be able to enter the folder: PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

PIECE = ".tar.xz"
NUMBERED = re.compile(r"(.*)-\d+-of-(\d+)\.tar")
NO_MULTICAST = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}
"""Of NCCL, PyTorch and NVSHMEM: nothing uses multicast over NVLink."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, required=True, help="folder")
    parser.add_argument("--no-multicast", action="store_true", help="over NVLink")
    options = parser.parse_args()
    into = options.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    pieces = [(archive, name) for archive in options.archives for name in members(archive)]
    if any(name.startswith("tree") for _, name in pieces):
        shutil.rmtree(into / "tree", ignore_errors=True)
    with ProcessPoolExecutor() as pool:
        for each in [pool.submit(unpack, *piece, into) for piece in pieces]:
            each.result()
    if (into / "postgres").is_dir():
        wrap(into / "postgres")
    temporary = into / "tmp"
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o1777)
    for name in missing(into, options.archives):
        print(f"still to come: {name}", file=sys.stderr)
    print(exports(into, no_multicast=options.no_multicast))
    return 0


def members(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return [name for name in tar.getnames() if name.endswith(PIECE)]


def unpack(archive: Path, name: str, into: Path) -> None:
    with tarfile.open(archive) as tar:
        piece = tar.extractfile(name)
        assert piece is not None
        with tarfile.open(fileobj=piece, mode="r:xz") as content:
            content.extractall(into, filter="data")


def wrap(folder: Path) -> None:
    """Commands that find the libraries which came with the server."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for program in folder.glob("usr/lib/postgresql/*/bin/*"):
        command = programs / program.name
        libraries = shlex.quote(str(folder / "libraries"))
        command.write_text(
            f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {shlex.quote(str(program))} "$@"\n'
        )
        command.chmod(0o755)


def missing(into: Path, archives: list[Path]) -> list[str]:
    """Names of the archives of this bundle that were not unpacked, now or before."""
    notes = into / "unpacked"
    before = notes.read_text().split() if notes.is_file() else []
    there = {*before, *(archive.name for archive in archives)}
    notes.write_text("\n".join(sorted(there)))
    named = [NUMBERED.fullmatch(archive.name) for archive in archives]
    return sorted(
        name
        for stem, count in {(each[1], int(each[2])) for each in named if each}
        for name in (f"{stem}-{number}-of-{count}.tar" for number in range(1, count + 1))
        if name not in there
    )


def exports(into: Path, *, no_multicast: bool) -> str:
    """Lines for a shell."""
    packages = [into / "tree" / "runtime", into / "tree" / "tests", into / "site"]
    values = {
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "WAN_MINIO": str(into / "minio" / "minio"),
        "WAN_POSTGRES": str(into / "postgres" / "bin"),
        "TMPDIR": str(into / "tmp"),
        **(NO_MULTICAST if no_multicast else {}),
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main())
