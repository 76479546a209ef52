"""Builds the cluster's programs from Go modules, once for each content of their pins.

Every group under `tools/` has its own go.mod and go.sum, so what is built is pinned and
verified by checksum. A finished group lies in `<cache>/bin/<group>-<hash>`; the hash covers the
module files, sources, flags and compiler, so a stale program is never used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster.errors import ClusterError, tail
from cluster.layout import KUBERNETES_VERSION, cache_dir, prune, sweep
from cluster.locks import alone
from cluster.progress import say
from cluster.shell import run

TOOLS = Path(__file__).resolve().parent / "tools"
GO = (1, 26)
"""The oldest Go that the modules take; Debian 12 has 1.19."""
MINIO_RELEASE = "2026-02-12T20-18-48Z"


@dataclass(frozen=True)
class Group:
    """Programs built from one go.mod."""

    name: str
    programs: tuple[tuple[str, str], ...]
    stamps: tuple[tuple[str, str], ...] = ()


def _kubernetes_stamps() -> tuple[tuple[str, str], ...]:
    values = {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": KUBERNETES_VERSION.split(".")[0],
        "gitMinor": KUBERNETES_VERSION.split(".")[1],
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple((f"{p}.{key}", value) for p in packages for key, value in values.items())


_HELM = "helm.sh/helm/v3"
GROUPS = {
    group.name: group
    for group in (
        Group(
            "kubernetes",
            (
                ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
                ("etcd", "go.etcd.io/etcd/server/v3"),
                ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
                ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
                ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
                ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
                ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ),
            _kubernetes_stamps(),
        ),
        Group("coredns", (("coredns", "."),)),
        Group("pause", (("pause", "."),)),
        Group("probe", (("probe", "."),)),
        Group(
            "helm",
            (("helm", f"{_HELM}/cmd/helm"),),
            (
                (f"{_HELM}/internal/version.version", "v3.22.0"),
                # `helm template` without a cluster then answers as this cluster would.
                (f"{_HELM}/pkg/chartutil.k8sVersionMajor", KUBERNETES_VERSION.split(".")[0]),
                (f"{_HELM}/pkg/chartutil.k8sVersionMinor", KUBERNETES_VERSION.split(".")[1]),
            ),
        ),
        Group(
            "minio",
            (("minio", "github.com/minio/minio"),),
            (
                ("github.com/minio/minio/cmd.ReleaseTag", f"RELEASE.{MINIO_RELEASE}"),
                ("github.com/minio/minio/cmd.Version", "2026-02-12T20:18:48Z"),
            ),
        ),
        Group("kwok", (("kwok", "sigs.k8s.io/kwok/cmd/kwok"),)),
    )
}
DEFAULT_GROUPS = ("kubernetes", "coredns", "pause", "probe", "helm", "minio")
_HOME = {program: group.name for group in GROUPS.values() for program, _ in group.programs}


@cache
def _go_version() -> str:
    wanted = f"install Go {'.'.join(map(str, GO))} or newer and put `go` on PATH"
    if not shutil.which("go"):
        raise ClusterError(f"Go is missing: {wanted}")
    # GOTOOLCHAIN=local: a go.mod must never make the build download another compiler.
    said = run(["go", "version"], env={**os.environ, "GOTOOLCHAIN": "local"}).stdout.strip()
    found = re.search(r"\bgo(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < GO:
        raise ClusterError(f"{found[0]} is too old: {wanted}")
    return said


def _ldflags(group: Group) -> str:
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in group.stamps)])


@cache
def group_dir(name: str) -> Path:
    """Where a group's programs lie for the present content of its pins."""
    group = GROUPS[name]
    digest = hashlib.sha256()
    digest.update(repr((group.programs, _ldflags(group), _go_version(), "-trimpath")).encode())
    for source in sorted((TOOLS / name).iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return cache_dir() / "bin" / f"{name}-{digest.hexdigest()[:16]}"


def program(name: str) -> Path:
    """The path of a built program."""
    return group_dir(_HOME[name]) / name


def _compile(group: Group, into: Path) -> None:
    log = cache_dir() / "log" / f"build-{group.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOWORK": "off",
    }
    with log.open("wb") as stream:
        for program_name, package in group.programs:
            began = time.monotonic()
            say(f"go build {program_name} ({package}) ...")
            argv = ["go", "build", f"-ldflags={_ldflags(group)}"]
            argv += ["-o", str(into / program_name), package]
            built = subprocess.run(
                argv, cwd=TOOLS / group.name, env=env, stdout=stream, stderr=stream
            )
            if built.returncode:
                raise ClusterError(f"go build of {program_name} failed; {tail(log)}")
            say(f"go build {program_name}: {time.monotonic() - began:.0f} s")


def build(names: tuple[str, ...] = DEFAULT_GROUPS) -> None:
    """Builds the groups that are not in the cache; one at a time, Go uses all cores itself."""
    for name in names:
        final = group_dir(name)
        if final.exists():
            continue
        with alone(f"the programs of {name}"):
            if not final.exists():
                _install(name, final)


def _install(name: str, final: Path) -> None:
    """Builds a group in a folder beside its own, so that the rename is atomic and a killed build
    leaves nothing that looks finished."""
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent, name)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=final.parent))
    try:
        _compile(GROUPS[name], work)
        work.chmod(0o755)
        work.rename(final)
        prune(final.parent, name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def folder() -> Path:
    """One folder with links to all default programs, for a PATH; built if need be."""
    build()
    homes = {name: group_dir(_HOME[name]) for name in _HOME if _HOME[name] in DEFAULT_GROUPS}
    digest = hashlib.sha256(repr(sorted(homes.items())).encode()).hexdigest()[:16]
    links = cache_dir() / "bin" / f"all-{digest}"
    links.mkdir(parents=True, exist_ok=True)
    for name, home in homes.items():
        link = links / name
        if not link.is_symlink():
            link.symlink_to(home / name)
    return links
