"""Where everything of a cluster lies and which ports it uses."""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

CONTEXT = "wan-embedded"
NODE = "node-0"
NODE_IP = "10.99.0.1"
NODE_BRIDGE = "wan0"
POD_BRIDGE = "wanpods0"
POD_CIDR = "10.88.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
DOMAIN = "cluster.local"
FAKE_GPUS = 8
KUBERNETES_VERSION = "1.34.3"
STORAGE_CLASS = "wan-local"

PORTS = {
    "etcd": 2379,
    "etcd-peer": 2380,
    "kube-apiserver": 6443,
    "kube-controller-manager": 10257,
    "kube-scheduler": 10259,
    "kubelet": 10250,
    "kubelet-health": 10248,
    "kube-proxy": 10249,
    "kube-proxy-health": 10256,
    "coredns-ready": 8181,
}
API_COMPONENTS = ("etcd", "kube-apiserver")
FULL_COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "volumes",
    "containerd",
    "kubelet",
    "kube-proxy",
    "coredns",
)
# What may stand beside a bare API server: nothing that touches the host.
EXTRA_COMPONENTS = ("kube-controller-manager", "kube-scheduler", "kwok")


def cache_dir() -> Path:
    """Binaries and images, shared by all clusters and kept by `down`."""
    named = os.environ.get("WAN_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "wan-operator"


def default_state() -> Path:
    """The full cluster's state folder."""
    return Path(os.environ.get("WAN_CLUSTER_STATE") or "/var/lib/wan-cluster")


def default_api_state() -> Path:
    """The bare API server's state folder, in the cache: it needs no root."""
    return cache_dir() / "control-plane"


def prune(folder: Path, prefix: str, keep: int = 3) -> None:
    """Deletes all but the newest cached results of one kind, so that the cache stays bounded."""
    found = [path for path in folder.iterdir() if path.name.startswith(f"{prefix}-")]
    for path in sorted(found, key=lambda entry: entry.stat().st_mtime, reverse=True)[keep:]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sweep(folder: Path, prefix: str) -> None:
    """Deletes what builds of one kind that were killed have left. Not while one goes on."""
    for left in folder.glob(f".{prefix}-*"):
        shutil.rmtree(left)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on; held together, so that all differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


@dataclass(frozen=True)
class Layout:
    """One cluster: its folder, what runs in it, its ports. Written to `cluster.json` once."""

    state: Path
    components: tuple[str, ...] = FULL_COMPONENTS
    ports: dict[str, int] = field(default_factory=lambda: dict(PORTS))

    @property
    def full(self) -> bool:
        """Whether it has a node; only then is the host's network touched."""
        return "kubelet" in self.components

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates, keys and the components' kubeconfigs."""
        return self.state / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration files."""
        return self.state / "config"

    @property
    def containerd_socket(self) -> Path:
        """Our own containerd's socket: another one on this machine is never spoken to."""
        return self.state / "containerd" / "containerd.sock"

    @property
    def api_url(self) -> str:
        """The API server by loopback, so that load tests never leave this machine."""
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    def log(self, name: str) -> Path:
        """A component's log file."""
        return self.state / "log" / f"{name}.log"

    def save(self) -> None:
        """Records the shape, so that later commands need only the folder."""
        self.state.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"components": self.components, "ports": self.ports}, indent=1)
        (self.state / "cluster.json").write_text(text)


def load(state: Path) -> Layout | None:
    """The cluster whose state lies in `state`, or None when there is none."""
    record = state / "cluster.json"
    if not record.exists():
        return None
    data = json.loads(record.read_text())
    return Layout(state, tuple(data["components"]), dict(data["ports"]))
