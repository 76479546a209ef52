"""Takes a cluster down and leaves the machine as it was.

Pods are not deleted through the API: a broken cluster must come down too. Containers are ended
by the cgroups the kubelet put them in, while containerd still lives to see them go; then
containerd ends, then its shims, and only then can mounts, bridges, cgroups and files go.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from cluster import network
from cluster.components import Component
from cluster.daemon import end
from cluster.errors import ClusterError
from cluster.layout import Layout, cache_dir, load
from cluster.locks import alone
from cluster.progress import say
from cluster.shell import run

_CGROUPS = Path("/sys/fs/cgroup")


def cgroup_roots() -> list[Path]:
    """The kubelet's cgroups: one folder in each hierarchy of version 1, one in version 2."""
    found = [*_CGROUPS.glob("kubepods"), *_CGROUPS.glob("*/kubepods")]
    return sorted({path.resolve() for path in found if path.is_dir()})


def _contained() -> set[int]:
    """Pids of all processes in pods."""
    pids: set[int] = set()
    for root in cgroup_roots():
        for folder in _folders(root):
            with contextlib.suppress(OSError):
                pids |= {int(word) for word in (folder / "cgroup.procs").read_text().split()}
    return pids


def _folders(root: Path) -> list[Path]:
    """A folder and all below it, the innermost first. Those that vanish meanwhile are left out, for
    which `rglob` raises."""
    return [Path(folder) for folder, _, _ in os.walk(root, topdown=False)]


def shims(layout: Layout) -> set[int]:
    """Pids of the containerd shims that serve our containerd and no other."""
    mark = str(layout.containerd_socket).encode()
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"containerd-shim" in words[0] and mark in words:
                found.add(int(path.parent.name))
    return found


def _shim_sockets(layout: Layout) -> list[Path]:
    """Socket files of our shims, which lie outside the state folder."""
    records = (layout.state / "containerd" / "state").glob("*/k8s.io/*/address")
    addresses = [path.read_text().strip() for path in records]
    return [Path(text.removeprefix("unix://")) for text in addresses]


def mounts_below(folder: Path) -> list[str]:
    """Mount points below a folder, deepest first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point.startswith(f"{folder}/"):
            points.append(point)
    return sorted(points, key=len, reverse=True)


def _unmount(folder: Path) -> None:
    for _ in range(5):
        points = mounts_below(folder)
        if not points:
            return
        for point in points:
            run(["umount", point], check=False)
    for point in mounts_below(folder):
        run(["umount", "--lazy", point], check=False)
    if left := mounts_below(folder):
        raise ClusterError(f"could not unmount {', '.join(left[:5])}")


def _remove_cgroups() -> None:
    deadline = time.monotonic() + 5
    while roots := cgroup_roots():
        for root in roots:
            for folder in _folders(root):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        if time.monotonic() > deadline:
            raise ClusterError(f"could not remove the cgroups {cgroup_roots()}")
        time.sleep(0.05)


def _remove_host_files(layout: Layout) -> None:
    """What kubelet and CNI leave outside the state folder, whatever it was told."""
    links = Path("/var/log/containers")
    if links.is_dir():
        for link in links.iterdir():
            if link.is_symlink() and str(layout.state) in os.readlink(link):
                link.unlink()
    results = Path("/var/lib/cni/results")
    if results.is_dir():
        for path in results.iterdir():
            if str(layout.state) in path.read_text(errors="replace"):  # it names the namespace
                path.unlink()
    runc = Path("/run/containerd/runc/k8s.io")
    sockets = Path("/run/containerd/s")
    for folder in (links, results, results.parent, runc, runc.parent, sockets, sockets.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()  # only when empty


def _remove_runc_state(layout: Layout) -> None:
    """runc's records of our containers, which lie outside the state folder too."""
    for record in (layout.state / "containerd" / "state").glob("*/k8s.io/*/address"):
        shutil.rmtree(Path("/run/containerd/runc/k8s.io") / record.parent.name, ignore_errors=True)


def _end_pods(layout: Layout) -> None:
    for _ in range(3):
        if pids := _contained():
            end(sorted(pids), grace=0)
        time.sleep(0.05)
    Component(layout, "containerd").stop()
    sockets = _shim_sockets(layout)
    end(sorted(shims(layout)), grace=3)
    for pid in sorted(_contained()):
        end([pid], grace=0)
    for path in sockets:
        path.unlink(missing_ok=True)
    _remove_runc_state(layout)


def down(state: Path, *, purge: bool = False) -> None:
    """Removes every process, mount, link, rule, cgroup and file of a cluster."""
    folder = state.absolute()
    with alone(str(folder.resolve())):
        layout = load(folder)
        if layout is None:
            say(f"no cluster in {folder}")
        else:
            if layout.full and os.geteuid() != 0:
                raise ClusterError("taking the full cluster down needs root")
            # Controllers first, so that nothing is made anew; etcd last, since all write to it.
            for name in reversed(layout.components):
                if name != "containerd":
                    Component(layout, name).stop(grace=5)
            if layout.full:
                _end_pods(layout)
                _unmount(folder)
                network.remove(layout)
                _remove_cgroups()
                _remove_host_files(layout)
            shutil.rmtree(folder)
            say(f"removed {folder}")
    if purge:
        # Go's modules and build cache are the user's own and stay.
        for name in ("bin", "images", "log", "locks"):
            shutil.rmtree(cache_dir() / name, ignore_errors=True)
        say(f"removed the caches in {cache_dir()}")
