"""Checks for real what the rest of the tests take for granted about the cluster."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import host, images, lifecycle, loading, teardown
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.kubectl import Kubectl, require_safe
from cluster.layout import Layout
from cluster.progress import say
from cluster.shell import wait_for
from cluster.toolchain import program

_MANIFESTS = Path(__file__).resolve().parent / "manifests"
_NAMESPACE = "wan-selfcheck"
_VALUES = {"namespace": _NAMESPACE, "image": images.PROBE_IMAGE}


def expect(what: str, holds: bool, detail: object = "") -> None:
    """One asserted fact; a plain `assert` would vanish under `python -O`."""
    if not holds:
        raise ClusterError(f"selfcheck failed: {what}: {detail}")
    say(f"ok: {what}")


class Checked:
    """The namespace under check and shorthands for asking about it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.kubectl = Kubectl(require_safe(layout.kubeconfig))

    def get(self, *words: str) -> Any:
        """An object of the namespace as JSON."""
        return self.kubectl.get("-n", _NAMESPACE, *words)

    def run(self, *words: str) -> str:
        """kubectl in the namespace."""
        return self.kubectl("-n", _NAMESPACE, *words)

    def until(self, what: str, holds: Callable[[], bool], timeout: float = 90) -> None:
        """Waits for a fact; on failure shows the namespace's events."""
        try:
            wait_for(what, holds, timeout=timeout, every=0.2)
        except ClusterError as error:
            shown = self.kubectl("-n", _NAMESPACE, "get", "pods,events", check=False)
            logs = self.kubectl("-n", _NAMESPACE, "logs", "-l", "job-name=gang", check=False)
            raise ClusterError(f"{error}\n{shown[-3000:]}\n{logs[-1000:]}") from error
        say(f"ok: {what}")

    def pods(self) -> list[dict[str, Any]]:
        """The gang's pods, rank 0 first."""
        index = "batch.kubernetes.io/job-completion-index"
        found: list[dict[str, Any]] = self.get("pods", "-l", "job-name=gang")["items"]
        return sorted(found, key=lambda pod: int(pod["metadata"]["labels"][index]))


def _forwarded(layout: Layout, pod: str) -> str:
    """What a pod answers through `kubectl port-forward`."""
    argv = [program("kubectl"), "--kubeconfig", layout.kubeconfig, "-n", _NAMESPACE]
    argv += ["port-forward", f"pod/{pod}", ":8080"]
    with subprocess.Popen(
        [str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as forward:
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if not found:
                return line
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
            connection.request("GET", "/")
            return connection.getresponse().read().decode().strip()
        finally:
            forward.send_signal(signal.SIGTERM)


def _refused_by_pod_security(checked: Checked) -> bool:
    try:
        checked.run("run", "root", "--image=x", "--restart=Never")
    except ClusterError as error:
        return "violates PodSecurity" in str(error)
    return False


def _check_gang(checked: Checked) -> None:
    def content() -> bool:
        pods = checked.pods()
        names = [pod["metadata"]["name"] for pod in pods]
        ended = [pod for pod in pods if pod["status"]["phase"] in ("Failed", "Succeeded")]
        if ended:
            raise ClusterError(f"a rank ended early: {checked.run('logs', names[0])}")
        return len(pods) == 2 and all(
            "is content" in checked.kubectl("-n", _NAMESPACE, "logs", name, check=False)
            for name in names
        )

    checked.until("two ranks see DNS, each other, a ClusterIP, the API and their limit", content)
    pods = checked.pods()
    names = [pod["metadata"]["name"] for pod in pods]
    expect("logs", "rank 1 is content" in checked.run("logs", names[1]))
    expect("exec", checked.run("exec", names[0], "--", "id", "-u").strip() == "1000")
    expect("port-forward", _forwarded(checked.layout, names[1]) == "hello from 1")
    service = checked.get("service", "rank0")["spec"]["clusterIP"]
    connection = http.client.HTTPConnection(service, 80, timeout=10)
    connection.request("GET", "/")
    expect("a ClusterIP from the host", connection.getresponse().read() == b"hello from 0")
    # Only now: before the gang holds its eight, the ninth would be given.
    checked.kubectl.apply(_MANIFESTS / "selfcheck-ninth-gpu.yaml", _VALUES)

    def unschedulable() -> bool:
        conditions = checked.get("pod", "waits")["status"].get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in c.get("message", "") for c in conditions)

    checked.until("a ninth GPU is not given", unschedulable)
    started = {pod["metadata"]["uid"]: pod["status"]["startTime"] for pod in pods}
    for name in ("kubelet", "containerd"):
        component = Component(checked.layout, name)
        component.kill()
        expect(f"{name} is dead after kill", not component.running())
        component.start()
    after = checked.pods()
    same = {pod["metadata"]["uid"]: pod["status"]["startTime"] for pod in after} == started
    running = all(pod["status"]["phase"] == "Running" for pod in after)
    expect("pods outlive kubelet and containerd", same and running, after)
    for name in names:
        checked.run("exec", name, "--", "touch", "/tmp/leave")

    def complete() -> bool:
        conditions = checked.get("job", "gang")["status"].get("conditions", [])
        return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)

    checked.until("the Job completes", complete)
    messages = [
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
        for pod in checked.pods()
    ]
    expect("termination messages", [json.loads(m) for m in messages] == [{"rank": 0}, {"rank": 1}])


def _check_rest(checked: Checked) -> None:
    def killed() -> bool:
        statuses = checked.get("pod", "waits")["status"].get("containerStatuses", [{}])
        ended = statuses[0].get("state", {}).get("terminated", {})
        return bool(ended.get("reason") == "OOMKilled")

    checked.until("the waiting pod gets its GPU and dies of its memory limit", killed)
    checked.until(
        "the default storage class serves a claim",
        lambda: checked.get("pvc", "claim")["status"].get("phase") == "Bound",
    )


def check(layout: Layout) -> None:
    """Runs all checks in a namespace of their own and removes it."""
    loading.load(layout, images.probe())
    checked = Checked(layout)
    checked.kubectl("delete", "namespace", _NAMESPACE, "--ignore-not-found", "--wait")
    try:
        began = time.monotonic()
        checked.kubectl.apply(_MANIFESTS / "selfcheck.yaml", _VALUES)
        expect("Pod Security refuses a root pod", _refused_by_pod_security(checked))
        _check_gang(checked)
        _check_rest(checked)
        say(f"selfcheck passed in {time.monotonic() - began:.1f} s")
    finally:
        checked.kubectl("delete", "namespace", _NAMESPACE, "--ignore-not-found", "--wait")


def lifecycle_check(state: Path) -> None:
    """The whole life of a cluster; it must not be up, and afterwards it is."""
    if os.environ.get("WAN_KUBECONFIG"):
        raise ClusterError(
            "the lifecycle check is about the embedded cluster: unset WAN_KUBECONFIG"
        )
    layout = Layout(state)
    if state.exists():
        raise ClusterError(f"{state} exists; take that cluster down first")
    before = host.snapshot(layout)

    def timed(what: str, action: Callable[[], object]) -> None:
        began = time.monotonic()
        action()
        say(f"time: {what} {time.monotonic() - began:.1f} s")

    def pids() -> dict[str, int | None]:
        return {name: Component(layout, name).daemon.pid() for name in layout.components}

    timed("first up", lambda: lifecycle.up(state))
    started = pids()
    timed("second up", lambda: lifecycle.up(state))
    expect("a second up changes nothing", pids() == started)
    check(layout)
    for name in layout.components:
        Component(layout, name).kill()
        timed(f"repair of {name}", lambda: lifecycle.up(state))
        expect(f"up repairs {name}", lifecycle.status(layout)[1], lifecycle.status(layout)[0])
    for name in layout.components:
        Component(layout, name).kill()
    timed("repair of everything", lambda: lifecycle.up(state))
    # Pods that run while the cluster goes, and a dead component: the hard case for `down`.
    Kubectl(layout.kubeconfig)(
        "create", "deployment", "left", f"--image={images.PROBE_IMAGE}", "--replicas=3",
        "--", "sleep", "3600",
    )  # fmt: skip
    Kubectl(layout.kubeconfig)("rollout", "status", "deployment/left", "--timeout=60s")
    Component(layout, "kubelet").kill()
    timed("down", lambda: teardown.down(state))
    left = host.differences(before, host.snapshot(layout))
    expect("down leaves the machine as it was", not left, "\n".join(left))
    timed("up again", lambda: lifecycle.up(state))
    expect("it works again", lifecycle.status(layout)[1])
