"""What the machine looks like, to see that `down` left nothing."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from cluster.daemon import birth
from cluster.layout import Layout
from cluster.network import links, sysctls
from cluster.shell import run
from cluster.teardown import cgroup_roots


def _processes(layout: Layout) -> list[str]:
    """Live processes of a cluster: all name its folder or sit in the kubelet's cgroups."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (path / "comm").read_text().strip()
            words = (path / "cmdline").read_bytes()
            ours = str(layout.state).encode() in words and int(path.name) != os.getpid()
            contained = "/kubepods" in (path / "cgroup").read_text()
            if (ours or contained) and birth(int(path.name)) is not None:
                found.append(f"{name} {path.name}")
    return sorted(found)


def _firewall(family: str) -> list[str]:
    """Rules and chains; counters and empty built-in chains say nothing."""
    lines = run([f"{family}-save"], check=False).stdout.splitlines()
    kept = []
    for line in lines:
        if line.startswith(("-", ":")) and not re.match(r":[A-Z]+ ACCEPT ", line):
            kept.append(re.sub(r"\[\d+:\d+]", "", line))
    return kept


def snapshot(layout: Layout) -> dict[str, object]:
    """Everything that a cluster changes on its machine."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # buildah's store: an image build may run beside this check.
    mounts = [point for point in mounts if not point.startswith("/var/lib/containers/")]
    routes = run(["ip", "route", "show", "table", "all"]).stdout.splitlines()
    return {
        "processes": _processes(layout),
        "links": sorted(links()),
        "routes": sorted(line.strip() for line in routes if "cache" not in line),
        "mounts": sorted(mounts),
        "iptables": _firewall("iptables"),
        "ip6tables": _firewall("ip6tables"),
        "cgroups": [str(path) for path in cgroup_roots()],
        "network namespaces": run(["ip", "netns", "list"]).stdout.split(),
        "sysctls": sysctls(),
        "files": sorted(
            str(path)
            for folder in ("/var/lib/cni", "/var/log/containers", "/run/containerd", "/run/netns")
            for path in Path(folder).rglob("*")
        )
        + [str(layout.state)] * layout.state.exists(),
    }


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What differs, in words."""
    return [
        f"{name}: before {before[name]}, after {after[name]}"
        for name in before
        if before[name] != after[name]
    ]
