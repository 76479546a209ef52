"""Each mistake in the table is refused with its cause, or has it in `kubectl get wan -o wide`; what
is mended goes on, and nothing is deleted for it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import mistakes
from integration.apiserver import ApiError, ApiServer, free_ports, stop
from integration.operator_process import ROOT, Operator, controllers
from mistakes import Mistake, manifests

Raw = dict[str, Any]
PLURALS = {"WanFineTune": "wanfinetunes", "WanInferenceService": "waninferenceservices"}
VALUES = {"endpoint": "http://minio:9000"}
ROOMY = {"cpu": "64", "memory": "512Gi", "pods": "500", "ephemeral-storage": "4Ti"}


@pytest.mark.parametrize("row", mistakes.mistakes("apply"), ids=lambda row: row.name)
def test_refused_when_it_is_applied(
    apiserver: ApiServer, crd: Raw, namespace: str, row: Mistake
) -> None:
    def apply(fragment: Raw) -> None:
        [manifest] = manifests(row, [fragment], namespace, **VALUES)
        group = f"/apis/{manifest['apiVersion']}/namespaces/{namespace}"
        query = "dryRun=All&fieldValidation=Strict"
        apiserver.request("POST", f"{group}/{PLURALS[manifest['kind']]}?{query}", manifest)

    with pytest.raises(ApiError) as refused:
        apply(row.apply[-1])
    for word in row.says:
        assert word in str(refused.value)
    mended = {"kind": row.apply[-1]["kind"], "name": "mended"}
    apply(mended | (row.mend[0] if row.mend else {}))


@pytest.mark.parametrize("row", mistakes.mistakes("chart"), ids=lambda row: row.name)
def test_refused_by_helm(row: Mistake, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(row.apply[0]))
    done = subprocess.run(
        [
            *(Path(os.environ["WAN_BIN"]) / "helm", "template", "wan-operator"),
            *(ROOT / "charts" / "wan-operator", "-f", values),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(tmp_path)},
    )
    assert done.returncode
    for word in row.says:
        assert word in done.stderr.replace("/", ".")


@pytest.fixture(scope="module")
def scheduled(apiserver: ApiServer, crd: Raw) -> Iterator[ApiServer]:
    """With the controllers of Jobs, Deployments and quotas, and the scheduler."""
    (port,) = free_ports(1)
    command = [
        apiserver.binaries / "kube-scheduler",
        f"--kubeconfig={apiserver.kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={apiserver.folder}/scheduler",
    ]
    with open(apiserver.folder / "kube-scheduler.log", "wb") as log:
        scheduler = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with controllers(apiserver, "resourcequota-controller"):
            yield apiserver
    finally:
        stop(scheduler)


class Nodes:
    """Nodes without a kubelet: pods are bound to them and start nowhere."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.names: list[str] = []

    def put(self, node: Raw) -> None:
        """Creates it, or edits it to be so."""
        name = f"mistakes-{node['name']}"
        if name not in self.names:
            self.names.append(name)
            self.server.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        gpus = {"nvidia.com/gpu": str(node["gpus"])} if "gpus" in node else {}
        ready = {"type": "Ready", "status": "True"}
        resources = ROOMY | gpus
        status = {"capacity": resources, "allocatable": resources, "conditions": [ready]}
        body = {
            "metadata": {"labels": node.get("labels", {})},
            # The API server taints new nodes as not ready.
            "spec": {
                "taints": node.get("taints", []),
                "unschedulable": node.get("unschedulable", False),
            },
        }
        self._edit(name, body)
        self._edit(f"{name}/status", {"status": status})

    def _edit(self, path: str, body: Raw) -> None:
        content_type = "application/merge-patch+json"
        self.server.request("PATCH", f"/api/v1/nodes/{path}", body, content_type=content_type)

    def remove(self) -> None:
        for name in self.names:
            self.server.request("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def nodes(scheduled: ApiServer) -> Iterator[Nodes]:
    made = Nodes(scheduled)
    made.put({"name": "roomy", "gpus": 4})
    for product in ("NVIDIA-H200", "NVIDIA-L40", "NVIDIA-A100-SXM4-40GB"):
        made.put(
            {"name": product.lower(), "labels": {"nvidia.com/gpu.product": product}, "gpus": 4}
        )
    yield made
    made.remove()


class Sheet:
    """The rows that are seen together, each with its namespace."""

    def __init__(self, server: ApiServer, namespace: str, rows: Sequence[Mistake]) -> None:
        self.server, self.rows = server, rows
        self.places = {
            row.name: f"{namespace}-{row.name}" if row.alone else namespace for row in rows
        }
        for place in set(self.places.values()) - {namespace}:
            server.request("POST", "/api/v1/namespaces", {"metadata": {"name": place}})

    @property
    def namespaces(self) -> str:
        return ",".join(sorted(set(self.places.values())))

    def apply(self, fragments: Callable[[Mistake], Sequence[Raw]]) -> None:
        made = [
            manifest
            for row in self.rows
            for manifest in manifests(row, fragments(row), self.places[row.name], **VALUES)
        ]
        # Quotas and policies first, or what they refuse would be there before them.
        made.sort(key=lambda manifest: manifest["kind"] in mistakes.KINDS)
        self.server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(made))

    def play_kubelet(self) -> None:
        """Removes the pods that are deleted, and lets gateways answer."""
        for place in set(self.places.values()):
            path = f"/api/v1/namespaces/{place}/pods"
            for pod in self.server.request("GET", f"{path}?fieldSelector=spec.nodeName!=")["items"]:
                one = f"{path}/{pod['metadata']['name']}"
                component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
                if "deletionTimestamp" in pod["metadata"]:
                    self.server.request("DELETE", one, {"gracePeriodSeconds": 0})
                elif component == "gateway" and pod["status"]["phase"] == "Pending":
                    ready = {"type": "Ready", "status": "True"}
                    body = {"status": {"phase": "Running", "conditions": [ready]}}
                    content_type = "application/merge-patch+json"
                    self.server.request("PATCH", f"{one}/status", body, content_type=content_type)

    def read(self) -> mistakes.Table:
        self.play_kubelet()
        words = ("get", "wan", "-A", "-o", "wide", "--no-headers")
        return mistakes.table(self.server.kubectl(*words).stdout)

    def missing(self, words: Callable[[Mistake], Sequence[str]], seconds: float) -> list[str]:
        """The lines that have not got their words by then."""

        def wait(probe: Callable[[], bool]) -> None:
            deadline = time.monotonic() + seconds
            while not probe() and time.monotonic() < deadline:
                time.sleep(2)  # between two readings of the table

        missing = mistakes.await_words(self.read, self.places, self.rows, words, wait)
        return [f"{name}: {line}" for name, line in missing.items()]


def test_the_cause_is_in_the_table_and_what_is_mended_heals(
    scheduled: ApiServer, operator: Operator, namespace: str, nodes: Nodes
) -> None:
    sheet = Sheet(scheduled, namespace, mistakes.mistakes("scheduler"))
    operator.settings |= {"WAN_WATCH_NAMESPACES": sheet.namespaces, "WAN_DATABASE_SECRET": "wan-db"}
    operator.start()
    for node in (node for row in sheet.rows for node in row.nodes):
        nodes.put(node)
    sheet.apply(lambda row: row.apply)
    missing = sheet.missing(lambda row: row.says, mistakes.CAUSE_SECONDS)

    for node in (node for row in sheet.rows for node in row.mend_nodes):
        nodes.put(node)
    sheet.apply(lambda row: row.mend)
    missing += sheet.missing(lambda row: row.heals, mistakes.HEAL_SECONDS)
    assert not missing, "\n".join(missing)


def test_mended_settings_heal(
    scheduled: ApiServer, operator: Operator, namespace: str, nodes: Nodes
) -> None:
    sheet = Sheet(scheduled, namespace, mistakes.mistakes("settings"))
    right = {"WAN_WATCH_NAMESPACES": sheet.namespaces, "WAN_DATABASE_SECRET": "wan-database"}
    operator.settings = right | {
        name: value for row in sheet.rows for name, value in row.settings.items()
    }
    operator.start()
    sheet.apply(lambda row: row.apply)
    missing = sheet.missing(lambda row: row.says, mistakes.CAUSE_SECONDS)

    operator.terminate()
    operator.settings = right
    operator.start()
    missing += sheet.missing(lambda row: row.heals, mistakes.HEAL_SECONDS)
    assert not missing, "\n".join(missing)
