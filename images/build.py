"""Builds our images with buildah, from the embedded cluster's own Debian base, and hands them to
its containerd.

    python3 images/build.py operator runtime postgres    # prints one image reference a line
    python3 images/build.py --torch cuda --no-load runtime    # the image for GPU nodes, 6 GB

A tag is the hash of everything the image is built from, so an unchanged image is found, not built.
Dependencies are images of their own: an edit of our code adds one layer to them. The host's
certificates, apt sources and package caches are mounted for the build only, never copied in. With
Docker and a public base image, `docker build -f images/<name>/Containerfile .` is all it takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "e2e"))

from cluster import ClusterError, images, layout_of, loading, packages  # noqa: E402
from cluster.layout import cache_dir  # noqa: E402
from cluster.locks import alone  # noqa: E402
from cluster.progress import say  # noqa: E402

STORAGE = ["--storage-driver", "overlay"]
KEPT = 2
"""Images of a name: of this tree and the one before."""

BUILDERS = ("requirements/build.txt",)
DEPENDENCIES = {
    "operator": (*BUILDERS, "requirements/operator.txt", "images/operator"),
    "runtime": (*BUILDERS, "requirements/runtime.txt", "requirements/cuda.txt", "images/runtime"),
}
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "operator", "runtime")
CONTEXT = {
    "operator": (*SOURCES, *DEPENDENCIES["operator"]),
    "runtime": (*SOURCES, *DEPENDENCIES["runtime"]),
    "postgres": ("images/postgres",),
}
STAGES = ("dependencies", "build")
"""Stages of a Containerfile that hold none of our code, and what the stages after them start from.
They are images of their own: buildah reads all of a stage that is copied from, gigabytes, only to
find that it knows the copy already."""
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
    with alone(f"the image {reference}"):
        if not built(reference):
            say(f"building {reference} ...")
            build(name, torch, reference)
            forget(reference, flavour)
            say(f"{reference} built in {time.monotonic() - started:.0f} s")
    if load:
        hand_over(reference)
        say(f"{reference} in the cluster after {time.monotonic() - started:.0f} s")
    return reference


def content_hash(name: str) -> str:
    """First 12 hex digits over the names and bytes of all that goes into the image."""
    return digest_of(CONTEXT[name])


def digest_of(entries: tuple[str, ...], *words: str) -> str:
    """First 12 hex digits over the names and bytes of files, those in folders too, and `words`."""
    digest = hashlib.sha256("\0".join(words).encode())
    for entry in entries:
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
    packages.install()
    base = f"localhost/wan/debian:{images.debian().stem}"
    if not built(base):
        run("buildah", "pull", "--quiet", *STORAGE, f"docker-archive:{images.debian()}")
        run("buildah", "tag", *STORAGE, images.DEBIAN_IMAGE, base)
    containerfile = ROOT / "images" / name / "Containerfile"
    arguments = {"BASE": base, **({"TORCH": torch} if name == "runtime" else {})}
    with tempfile.TemporaryDirectory(dir=cache_dir()) as work:
        layers = "--layers"
        if name in DEPENDENCIES:
            containerfile = on_dependencies(name, containerfile, Path(work), arguments)
            layers = "--layers=false"  # what changes at each edit is not worth keeping
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
        commit(containerfile, Path(work), arguments | {"REVISION": revision or "unknown"},
               layers, "-t", reference)  # fmt: skip


def on_dependencies(name: str, containerfile: Path, work: Path, arguments: dict[str, str]) -> Path:
    """The rest of a Containerfile, whose first stages are images: built unless they already are."""
    first, marker, rest = containerfile.read_text().partition("FROM build AS wheel\n")
    key = digest_of(DEPENDENCIES[name], first, *arguments.values())
    rest = marker + rest
    for stage in STAGES:
        image = f"localhost/wan/wan-{name}-{stage}:{key}"
        if not built(image):
            say(f"building {image} ...")
            commit(containerfile, work, arguments, "--layers", "--target", stage, "-t", image)
            forget(image, "")
        # In its place: of a stage that does nothing, buildah would leave a container behind.
        rest = re.sub(rf"^FROM {stage}\b", f"FROM {image}", rest, flags=re.MULTILINE)
    path = work / "Containerfile"
    path.write_text(rest)
    return path


def commit(containerfile: Path, work: Path, arguments: dict[str, str], *words: str) -> None:
    """Build with the host's certificates, apt sources and package caches mounted."""
    sources = work / "sources.list"
    sources.write_text("\n".join(images.mirrors()[1]) + "\n")
    mounts = {"/etc/ssl/certs": "/etc/ssl/certs:ro", str(sources): "/etc/apt/sources.list:ro"}
    for tool in ("uv", "pip"):
        cache = cache_dir() / "packages" / tool
        cache.mkdir(parents=True, exist_ok=True)
        mounts[str(cache)] = f"/root/.cache/{tool}"
    run(
        "buildah", "build", "--quiet", *STORAGE, "--isolation", "chroot",
        "--pull-never", "--format", "oci",
        *(word for source, target in mounts.items() for word in ("-v", f"{source}:{target}")),
        *(word for each in arguments.items() for word in ("--build-arg", "=".join(each))),
        *words, "-f", str(containerfile), str(ROOT),
    )  # fmt: skip


def forget(newest: str, flavour: str) -> None:
    """Remove the images of earlier trees but the last: each holds gigabytes of its own. The layers
    that dependencies are built from have no name and stay."""
    start = newest.rpartition(":")[0] + ":"
    command = ["buildah", "images", *STORAGE, "--json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [
        (image["created"], name)
        for image in json.loads(listed)
        for name in image["names"] or ()
        if name.startswith(start) and name.endswith("-cuda") == bool(flavour) and name != newest
    ]
    for _, name in sorted(found)[: 1 - KEPT]:
        # One that a build uses, or a build that was stopped has left in use, stays for now.
        subprocess.run(
            ["buildah", "rmi", *STORAGE, name], stdout=sys.stderr, stderr=subprocess.DEVNULL
        )


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
        if not all(each["digest"] in held for each in layers[:-1]):
            # To a layout buildah compresses whatever is not there yet, for half a minute; to a
            # plain folder it does not.
            plain = folder / "plain"
            run("buildah", "push", "--quiet", *STORAGE, "--disable-compression",
                reference, f"dir:{plain}")  # fmt: skip
            for digest in {each["digest"].removeprefix("sha256:") for each in layers}:
                (plain / digest).rename(blobs / digest)
        empty = {
            blobs / each["digest"].removeprefix("sha256:"): each["size"]
            for each in layers
            if each["digest"] in held
        }
        for path, size in empty.items():
            with path.open("wb") as file:
                file.truncate(size)
        # It writes no layer that is there already, and does not read it either.
        run("buildah", "push", "--quiet", *STORAGE, reference, f"oci:{folder}:{reference}")
        for path in empty:
            path.unlink()
        loading.load_layout(layout, folder, reference)


def run(*command: str) -> None:
    """Runs a command without its output, of which buildah's is an image's hash; errors stay."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"failed with exit code {done.returncode}: {' '.join(command)}")


if __name__ == "__main__":
    try:
        main()
    except ClusterError as error:
        sys.exit(f"error: {error}")
