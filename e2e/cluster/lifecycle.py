"""Brings a cluster up, repairs it, and says how it is."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from cluster import (
    certificates,
    configuration,
    images,
    loading,
    network,
    node,
    packages,
    toolchain,
)
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.kubectl import Kubectl
from cluster.layout import (
    API_COMPONENTS,
    EXTRA_COMPONENTS,
    FULL_COMPONENTS,
    PORTS,
    Layout,
    cache_dir,
    default_api_state,
    default_state,
    free_ports,
    load,
)
from cluster.locks import alone
from cluster.progress import say
from cluster.shell import wait_for

_MANIFESTS = Path(__file__).resolve().parent / "manifests"
_FREE_GB = 15


def _require_disk(path: Path) -> None:
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / 1e9
    if free < _FREE_GB:
        raise ClusterError(f"{path} has {free:.1f} GB free; the cluster wants {_FREE_GB} GB")


def _shape(state: Path, full: bool, extra: tuple[str, ...]) -> Layout:
    """The recorded cluster of this folder, or a new one."""
    known = load(state)
    if known is not None:
        wanted = FULL_COMPONENTS if full else (*API_COMPONENTS, *extra)
        if known.full != full or not set(wanted) <= set(known.components):
            raise ClusterError(
                f"{state} holds a cluster of {', '.join(known.components)}; take it down first "
                "or name another folder with --state"
            )
        return known
    if full:
        return Layout(state)
    numbers = free_ports(len(PORTS))
    return Layout(state, (*API_COMPONENTS, *extra), dict(zip(PORTS, numbers, strict=True)))


def _start_core(layout: Layout) -> list[str]:
    """etcd and the API server, each waited for: everything else needs them."""
    started = []
    for name in API_COMPONENTS:
        component = Component(layout, name)
        if not component.running():
            component.launch()
            started.append(name)
        component.await_healthy()
    return started


def _apply_base(layout: Layout) -> None:
    """RBAC and the storage class; applied again only when the manifest changed."""
    manifest = _MANIFESTS / "base.yaml"
    mark = layout.state / "base.applied"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return
    Kubectl(layout.kubeconfig).apply(manifest)
    mark.write_text(digest)


def _up(layout: Layout) -> list[str]:
    """Starts what doesn't run; returns the names of what it started."""
    certificates.make(layout)
    if layout.full:
        network.create(layout)
        configuration.write(layout)
    # Backwards: a server that lost its store, or its clients, takes long to end.
    for name in reversed(layout.components):
        component = Component(layout, name)
        if component.stale():
            say(f"{name} has a new program or configuration: restarting it")
            component.stop()
    if layout.full:
        # Needs nothing and is slow to answer: let it start beside etcd.
        began = [] if Component(layout, "containerd").running() else ["containerd"]
        Component(layout, "containerd").launch()
    else:
        began = []
    began += _start_core(layout)
    if layout.full:
        _apply_base(layout)
        Component(layout, "containerd").await_healthy()
        loading.load(layout, images.pause())
    rest = [
        Component(layout, name)
        for name in layout.components
        if name not in (*API_COMPONENTS, "containerd")
    ]
    for component in rest:
        if not component.running():
            component.launch()
            began.append(component.name)
    for component in rest:
        component.await_healthy()
    if layout.full:
        node.prepare(layout)
    if "kube-controller-manager" in layout.components:
        kubectl = Kubectl(layout.kubeconfig)

        def has_account() -> bool:
            words = ("get", "serviceaccount", "default", "-n", "default", "--ignore-not-found")
            return bool(kubectl(*words, "-o", "name").strip())

        wait_for("the default ServiceAccount", has_account)
    return began


def named_kubeconfig() -> Path | None:
    """The cluster that the user put in place of the embedded one, once it answered."""
    named = os.environ.get("WAN_KUBECONFIG")
    if not named:
        return None
    path = Path(named)
    if not path.exists():
        raise ClusterError(f"WAN_KUBECONFIG={named}: no such file")
    toolchain.build(("kubernetes",))
    try:
        Kubectl(path)("get", "--raw", "/readyz", "--request-timeout=10s")
    except ClusterError as error:
        raise ClusterError(
            f"the cluster of WAN_KUBECONFIG={named} does not answer: {error}"
        ) from error
    return path


def up(state: Path | None = None, *, full: bool = True, extra: tuple[str, ...] = ()) -> Path:
    """Makes the cluster run, whatever state it was in, and returns the kubeconfig.

    With WAN_KUBECONFIG set, a full cluster is never made: the one named there is used.
    """
    if full and (named := named_kubeconfig()):
        say(f"using the cluster of WAN_KUBECONFIG={named}")
        return named
    if unknown := set(extra) - set(EXTRA_COMPONENTS):
        raise ClusterError(f"no such component: {', '.join(sorted(unknown))}")
    folder = (state or (default_state() if full else default_api_state())).absolute()
    if full:
        packages.require_root("the full cluster")
    with alone(str(folder.resolve())):
        if load(folder) is None:
            for path in (folder, cache_dir()):
                _require_disk(path)
        packages.install() if full else None
        groups = ("kubernetes", "coredns", "pause") if full else ("kubernetes",)
        toolchain.build((*groups, "kwok") if "kwok" in extra else groups)
        layout = _shape(folder, full, extra)
        layout.save()
        began = _up(layout)
        if began:
            say(f"started {', '.join(began)}")
        else:
            say("everything runs already")
    return layout.kubeconfig


def status(layout: Layout) -> tuple[str, bool]:
    """A table of components and the node, and whether all is well."""
    rows = [("COMPONENT", "STATE", "PID", "MiB", "LOG")]
    well = True
    for name in layout.components:
        component = Component(layout, name)
        pid = component.daemon.pid()
        state = "down" if pid is None else "up" if component.healthy() else "unhealthy"
        well = well and state == "up"
        memory = str(component.daemon.resident_mib()) if pid else "-"
        rows.append((name, state, str(pid or "-"), memory, str(layout.log(name))))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if layout.full:
        found = node.find(layout) if Component(layout, "kube-apiserver").running() else None
        ready = node.ready(found)
        well = well and ready and node.has_gpus(found)
        gpus = found["status"]["allocatable"].get("nvidia.com/gpu", "0") if found else "-"
        lines.append(f"node node-0: {'Ready' if ready else 'not Ready'}, nvidia.com/gpu: {gpus}")
    return "\n".join(lines), well
