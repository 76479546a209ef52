"""Builds our images with buildah, from the embedded cluster's own Debian base, and hands them to
its containerd.

    python3 images/build.py operator runtime postgres    # prints one image reference a line
    python3 images/build.py --torch cuda --no-load runtime    # the image for GPU nodes, 6 GB

A tag is the hash of everything the image is built from, so an unchanged image is found, not built.
The host's certificates, apt sources and package caches are mounted for the build only, never copied
in. With Docker and a public base image, `docker build -f images/<name>/Containerfile .` is all it
takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "e2e"))

from cluster import ClusterError, images, layout_of, loading, packages  # noqa: E402
from cluster.layout import cache_dir  # noqa: E402

STORAGE = ["--storage-driver", "overlay"]
KEPT = 2
"""Images of a name: of this tree and the one before."""

SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "operator",
    "runtime",
    "requirements/build.txt",
)
CONTEXT = {
    "operator": (*SOURCES, "requirements/operator.txt", "images/operator"),
    "runtime": (*SOURCES, "requirements/runtime.txt", "requirements/cuda.txt", "images/runtime"),
    "postgres": ("images/postgres",),
}
FLAVOURS = ("cpu", "cuda")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=sorted(CONTEXT))
    parser.add_argument(
        "--no-load", action="store_true", help="build only, leave the cluster alone"
    )
    parser.add_argument(
        "--torch", choices=FLAVOURS, default="cpu", help="of the runtime image (default: cpu)"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        print(ensure(name, arguments.torch, load=not arguments.no_load))


def ensure(name: str, torch: str, *, load: bool = True) -> str:
    """Reference of the image of this tree, built and loaded unless it already is."""
    flavour = "-cuda" if name == "runtime" and torch == "cuda" else ""
    reference = f"localhost/wan/wan-{name}:{content_hash(name)}{flavour}"
    if load and loaded(reference):
        return reference
    started = time.monotonic()
    if not built(reference):
        build(name, torch, reference)
        forget(f"localhost/wan/wan-{name}:", flavour)
        say(f"{reference} built in {time.monotonic() - started:.0f} s")
    if load:
        hand_over(reference)
        say(f"{reference} in the cluster after {time.monotonic() - started:.0f} s")
    return reference


def content_hash(name: str) -> str:
    """First 12 hex digits over the names and bytes of all that goes into the image."""
    digest = hashlib.sha256()
    for entry in CONTEXT[name]:
        path = ROOT / entry
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" in file.parts:
                continue
            content = file.read_bytes()
            digest.update(f"{file.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def built(reference: str) -> bool:
    done = subprocess.run(
        ["buildah", "inspect", *STORAGE, "--type", "image", reference], capture_output=True
    )
    return done.returncode == 0


def build(name: str, torch: str, reference: str) -> None:
    """One layer for the dependencies, one for our code: an edit rebuilds the second only."""
    packages.install()
    base = f"localhost/wan/debian:{images.debian().stem}"
    if not built(base):
        run("buildah", "pull", "--quiet", *STORAGE, f"docker-archive:{images.debian()}")
        run("buildah", "tag", *STORAGE, images.DEBIAN_IMAGE, base)
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        sources = Path(folder) / "sources.list"
        sources.write_text("\n".join(images.mirrors()[1]) + "\n")
        mounts = {"/etc/ssl/certs": "/etc/ssl/certs:ro", str(sources): "/etc/apt/sources.list:ro"}
        for tool in ("uv", "pip"):
            cache = cache_dir() / "packages" / tool
            cache.mkdir(parents=True, exist_ok=True)
            mounts[str(cache)] = f"/root/.cache/{tool}"
        run(
            "buildah", "build", "--quiet", *STORAGE, "--isolation", "chroot", "--layers",
            "--pull-never", "--format", "oci",
            *(word for source, target in mounts.items() for word in ("-v", f"{source}:{target}")),
            "--build-arg", f"BASE={base}", "--build-arg", f"REVISION={revision or 'unknown'}",
            *(("--build-arg", f"TORCH={torch}") if name == "runtime" else ()),
            "-f", str(ROOT / "images" / name / "Containerfile"), "-t", reference, str(ROOT),
        )  # fmt: skip


def forget(start: str, flavour: str) -> None:
    """Remove the images of earlier trees but the last: each holds 2 GB of its own. The layers that
    the next build starts from have no name and stay."""
    command = ["buildah", "images", *STORAGE, "--json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [
        (image["created"], name)
        for image in json.loads(listed)
        for name in image["names"] or ()
        if name.startswith(start) and name.endswith("-cuda") == bool(flavour)
    ]
    for _, name in sorted(found)[:-KEPT]:
        run("buildah", "rmi", *STORAGE, name)


def loaded(reference: str) -> bool:
    return reference in loading.present(layout_of())


def hand_over(reference: str) -> None:
    """Give the cluster's containerd an image, and of its layers only those that it lacks: all but
    the last are as they were, and gigabytes."""
    layout = layout_of()
    inspected = subprocess.run(
        ["buildah", "inspect", *STORAGE, "--type", "image", reference],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    layers = json.loads(json.loads(inspected)["Manifest"])["layers"]
    held = loading.blobs(layout)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as name:
        folder = Path(name)
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        # buildah writes no layer that is there already, and does not read it either.
        empty = {
            blobs / each["digest"].removeprefix("sha256:"): each["size"]
            for each in layers
            if each["digest"] in held
        }
        for path, size in empty.items():
            with path.open("wb") as file:
                file.truncate(size)
        # Uncompressed: compressing costs minutes and saves nothing on one machine.
        run(
            "buildah", "push", "--quiet", *STORAGE, "--disable-compression",
            reference, f"oci:{folder}:{reference}",
        )  # fmt: skip
        for path in empty:
            path.unlink()
        loading.load_layout(layout, folder, reference)


def run(*command: str) -> None:
    """Runs a command with its output on stderr; stdout is for references."""
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode:
        sys.exit(f"failed with exit code {done.returncode}: {' '.join(command)}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except ClusterError as error:
        sys.exit(f"error: {error}")
