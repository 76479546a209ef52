"""The Debian packages that the cluster needs, installed only where missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import ClusterError
from cluster.locks import alone
from cluster.progress import say
from cluster.shell import run

NODE_PACKAGES = (
    "busybox-static",
    "buildah",
    "chromium",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "debootstrap",
    "ethtool",
    "iproute2",
    "iptables",
    "openssl",
    "postgresql",
    "runc",
    "socat",
)

POSTGRES_SETTINGS = Path("/etc/postgresql-common/createcluster.d")


def require_root(what: str) -> None:
    """Node work needs root; saying so beats failing half-way in."""
    if os.geteuid() != 0:
        raise ClusterError(
            f"{what} needs root (containerd, iptables, cgroups); run it as root, or use "
            "`up --control-plane-only`, which does not"
        )


def missing(names: tuple[str, ...] = NODE_PACKAGES) -> list[str]:
    """Those of the packages that dpkg doesn't call installed."""
    asked = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], check=False)
    present = {line.split()[0] for line in asked.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in present]


def install() -> None:
    """Installs what is missing; does nothing, and quickly, when nothing is."""
    if not shutil.which("dpkg-query"):
        raise ClusterError("the embedded cluster runs on Debian or Ubuntu; there is no dpkg here")
    if not missing():
        return
    with alone("Debian packages"):
        if wanted := missing():
            _apt_get(wanted)


def _apt_get(wanted: list[str]) -> None:
    require_root("installing " + ", ".join(wanted))
    say("apt-get install " + " ".join(wanted))
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A package's own containerd.service may start where systemd runs; ours has its own socket,
    # root and configuration, so the two don't meet.
    # Fresh machines update themselves in their first minutes: wait for that to end.
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    run([*apt, "update"], env=env)
    with _no_default_database():
        run([*apt, "install", "-y", "--no-install-recommends", *wanted], env=env)


@contextmanager
def _no_default_database() -> Iterator[None]:
    """Tests start a PostgreSQL of their own; Debian's package would make one and start it."""
    setting = POSTGRES_SETTINGS / "wan.conf"
    POSTGRES_SETTINGS.mkdir(parents=True, exist_ok=True)
    setting.write_text("create_main_cluster = false\n")
    try:
        yield
    finally:
        setting.unlink()
