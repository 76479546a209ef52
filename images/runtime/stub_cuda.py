"""Replaces the CUDA libraries of a virtual environment by empty ones, for images that run on CPUs.

PyPI's torch links against about 3 GB of NVIDIA libraries and loads them even where there is no GPU.
A CPU image needs their names and symbols, not their code: each library is replaced by one of a few
kilobytes that defines the symbols torch asks for, all of them answering 100, `cudaErrorNoDevice`.
torch then finds no device and stays on the CPU. Triton goes too: without a GPU nothing calls it.

    python3 stub_cuda.py /opt/wan/lib/python3.11/site-packages      (needs gcc and binutils)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NO_DEVICE = 100


def main(site_packages: Path) -> None:
    nvidia = site_packages / "nvidia"
    linked = sorted((site_packages / "torch" / "lib").glob("*.so*"))
    wanted = set().union(*(undefined(library) for library in linked))
    needed = set().union(*(needs(library) for library in linked))
    real = {path.name: path for path in nvidia.rglob("lib/*.so*") if path.name in needed}
    before = size(nvidia)
    with tempfile.TemporaryDirectory() as work:
        stubs = {
            name: build(Path(work), name, exported(path) & wanted) for name, path in real.items()
        }
        shutil.rmtree(nvidia)
        for name, path in real.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(stubs[name], path)
    shutil.rmtree(site_packages / "triton", ignore_errors=True)
    print(f"{len(real)} CUDA libraries replaced: {before >> 20} MiB -> {size(nvidia) >> 10} KiB")


def symbols(library: Path, which: str) -> set[tuple[str, str]]:
    """(name, version) pairs of a library's dynamic symbols; version '' where it has none."""
    listing = subprocess.run(
        ["nm", "-D", which, "--with-symbol-versions", "--format=posix", library],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = (line.split()[0].replace("@@", "@").partition("@") for line in listing.splitlines())
    return {(name, version) for name, _, version in names}


def undefined(library: Path) -> set[tuple[str, str]]:
    return symbols(library, "--undefined-only")


def exported(library: Path) -> set[tuple[str, str]]:
    return symbols(library, "--defined-only")


def needs(library: Path) -> set[str]:
    """SONAMEs that a library is linked against."""
    listing = subprocess.run(
        ["readelf", "-d", library], check=True, capture_output=True, text=True
    ).stdout
    return {line.split("[")[1].rstrip("]") for line in listing.splitlines() if "(NEEDED)" in line}


def build(work: Path, soname: str, defined: set[tuple[str, str]]) -> Path:
    """A shared library named `soname` that defines these symbols, each answering NO_DEVICE."""
    source, script, out = work / f"{soname}.s", work / f"{soname}.map", work / soname
    labels = "\n".join(
        f".globl {name}\n.type {name},@function\n{name}:" for name, _ in sorted(defined)
    )
    source.write_text(
        f'.text\n{labels}\nmov ${NO_DEVICE},%eax\nret\n.section .note.GNU-stack,"",@progbits\n'
    )
    versions = sorted({version for _, version in defined if version})
    blocks = [
        f"{version} {{ global: {' '.join(f'{n};' for n, v in sorted(defined) if v == version)} }};"
        for version in versions
    ]
    script.write_text("\n".join(blocks))
    flags = [f"-Wl,--version-script={script}"] if versions else []
    subprocess.run(
        ["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{soname}", *flags, "-o", out, source],
        check=True,
    )
    return out


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
