"""The images that can't be pulled here: pause, probe, MinIO and a Debian base.

Each is cached by content under `<cache>/images`. The Debian base is made by debootstrap from the
mirrors this machine's apt uses. It is refreshed when the suite, the package list or its steps
change and, because security updates come without any of those, in a new calendar month.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import archive, toolchain
from cluster.configuration import PAUSE_IMAGE
from cluster.errors import ClusterError, tail
from cluster.layout import cache_dir, prune, sweep
from cluster.locks import alone
from cluster.packages import require_root
from cluster.progress import say
from cluster.shell import run

PROBE_IMAGE = "localhost/wan/probe:1"
MINIO_IMAGE = f"localhost/wan/minio:{toolchain.MINIO_RELEASE}"
DEBIAN_IMAGE = "localhost/wan/debian:12"
_SUITE = "bookworm"
_PACKAGES = ("ca-certificates", "tini")
_EPOCH = "1700000000"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _cached(name: str, key: str, make: Callable[[Path, Path], None]) -> Path:
    """The archive `<name>-<hash of key>.tar`; made by `make(work folder, target)` if missing."""
    code = Path(archive.__file__).read_bytes()
    digest = hashlib.sha256(code + key.encode()).hexdigest()[:16]
    target = cache_dir() / "images" / f"{name}-{digest}.tar"
    if not target.exists():
        with alone(f"the image {name}"):
            if not target.exists():
                _make(name, target, make)
    return target


def _make(name: str, target: Path, make: Callable[[Path, Path], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, name)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as work:
        began = time.monotonic()
        make(Path(work), target)
        prune(target.parent, name)
        say(f"image {name}: {target.stat().st_size / 1e6:.0f} MB, {time.monotonic() - began:.0f} s")


def _static(layer: archive.Layer) -> None:
    """What even a static program expects of its root file system."""
    for name in ("etc", "proc", "sys", "dev", "data"):
        layer.directory(name)
    layer.directory("tmp", 0o1777)
    users = "root:x:0:0:root:/:/bin/sh\nwan:x:1000:1000:wan:/tmp:/bin/sh\n"
    layer.file("etc/passwd", users.encode())
    layer.file("etc/group", b"root:x:0:\nwan:x:1000:\n")


def pause() -> Path:
    """The sandbox container's image."""
    toolchain.build(("pause",))
    binary = toolchain.program("pause")

    def make(work: Path, target: Path) -> None:
        layer = archive.Layer(work / "layer.tar")
        layer.file("pause", binary.read_bytes(), 0o755)
        layer.close()
        settings = {"Entrypoint": ["/pause"], "User": "65535:65535"}
        archive.write(target, PAUSE_IMAGE, layer.path, settings)

    return _cached("pause", binary.parent.name, make)


def probe() -> Path:
    """busybox for a shell and our `probe` for HTTP by name, for checks."""
    toolchain.build(("probe",))
    program = toolchain.program("probe")
    binary = Path("/bin/busybox")
    if not binary.exists():
        raise ClusterError("busybox-static is not installed: run `build`")
    data = binary.read_bytes()

    def make(work: Path, target: Path) -> None:
        layer = archive.Layer(work / "layer.tar")
        _static(layer)
        layer.directory("bin")
        layer.file("bin/busybox", data, 0o755)
        layer.file("bin/probe", program.read_bytes(), 0o755)
        for applet in run([binary, "--list"]).stdout.split():
            if applet != "busybox":
                layer.symlink(f"bin/{applet}", "busybox")
        layer.close()
        settings: dict[str, Any] = {"Env": ["PATH=/bin"], "User": "1000:1000"}
        archive.write(target, PROBE_IMAGE, layer.path, {**settings, "Cmd": ["/bin/sh"]})

    return _cached("probe", hashlib.sha256(data).hexdigest() + program.parent.name, make)


def minio() -> Path:
    """The MinIO server alone."""
    toolchain.build(("minio",))
    binary = toolchain.program("minio")

    def make(work: Path, target: Path) -> None:
        layer = archive.Layer(work / "layer.tar")
        _static(layer)
        layer.file("minio", binary.read_bytes(), 0o755)
        layer.close()
        settings = {"Entrypoint": ["/minio"], "User": "1000:1000", "WorkingDir": "/tmp"}
        archive.write(target, MINIO_IMAGE, layer.path, settings)

    return _cached("minio", binary.parent.name, make)


def mirrors() -> tuple[str, list[str]]:
    """This machine's own Debian mirror and its apt lines, read when needed and never committed."""
    lines: list[str] = []
    for source in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", source.read_text()):
            fields = dict(re.findall(r"^([A-Za-z-]+):\s*(.+)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split():
                for uri in fields.get("URIs", "").split():
                    for suite in fields.get("Suites", "").split():
                        lines.append(f"deb {uri} {suite} main")
    single = Path("/etc/apt/sources.list")
    if single.exists():
        for line in single.read_text().splitlines():
            if found := re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line):
                lines.append(f"deb {found[1]} {found[2]} main")
    ours = [line for line in dict.fromkeys(lines) if line.split()[2].startswith(_SUITE)]
    for line in ours:
        if line.split()[2] == _SUITE:
            return line.split()[1], ours
    raise ClusterError(f"apt on this machine names no mirror for Debian {_SUITE}")


def _bootstrap(work: Path, target: Path) -> None:
    mirror, lines = mirrors()
    root = work / "root"
    log = cache_dir() / "log" / "debootstrap.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    include = ",".join(_PACKAGES)
    argv = ["debootstrap", "--variant=minbase", f"--include={include}", _SUITE, str(root), mirror]
    say(f"debootstrap {_SUITE} ...")
    with log.open("wb") as stream:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    if done.returncode:
        raise ClusterError(f"debootstrap failed; {tail(log)}")
    sources = root / "etc/apt/sources.list"
    sources.write_text("\n".join(lines) + "\n")
    env = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "PATH": _PATH,
    }
    # Debian's updates; debootstrap itself knows the release only.
    run(["chroot", root, "apt-get", "update", "-q"], env=env)
    run(["chroot", root, "apt-get", "dist-upgrade", "-q", "-y"], env=env)
    run(["chroot", root, "useradd", "-u", "1000", "-m", "-s", "/bin/sh", "wan"], env=env)
    # An image that is shared names no mirror; who builds on it brings their own.
    sources.write_text("# See the builder: mirrors are bind-mounted for the build only.\n")
    run(["chroot", root, "apt-get", "clean"], env=env)
    for folder in ("var/lib/apt/lists", "var/log", "var/cache/debconf", "usr/share/doc",
                   "usr/share/man", "usr/share/locale"):  # fmt: skip
        for entry in (root / folder).iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    for name in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        (root / name).unlink(missing_ok=True)
    for link in (root / "usr/bin", root / "usr/sbin"):
        if not link.is_dir():
            raise ClusterError(f"debootstrap left no {link}; {tail(log)}")
    layer = work / "layer.tar"
    run(["tar", "--create", f"--file={layer}", "--sort=name", "--numeric-owner",
         f"--mtime=@{_EPOCH}", "--clamp-mtime", "--exclude=./dev/*", "--exclude=./proc/*",
         "--exclude=./sys/*", f"--directory={root}", "."])  # fmt: skip
    settings = {"Env": [f"PATH={_PATH}", "LANG=C.UTF-8"], "Cmd": ["/bin/sh"]}
    archive.write(target, DEBIAN_IMAGE, layer, settings)


def debian() -> Path:
    """The base of the project's images; `buildah pull docker-archive:<path>` takes it in."""
    month = time.strftime("%Y-%m", time.gmtime())
    key = repr((_SUITE, _PACKAGES, month)) + inspect.getsource(_bootstrap)
    if os.geteuid() != 0:
        require_root("debootstrap")
    return _cached("debian", key, _bootstrap)
