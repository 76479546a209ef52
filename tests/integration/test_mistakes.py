"""Each mistake in the table is refused with its cause, or has it in `kubectl get wan -o wide`; what
is mended goes on, and nothing is deleted for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.apiserver import ApiError, ApiServer, stop
from integration.operator_process import ROOT, Operator, controllers
from mistakes import CAUSE_SECONDS, HEAL_SECONDS, Mistake, Sheet, manifests, mistakes
from ports import free_port

Raw = dict[str, Any]
PLURALS = {
    "WanFineTune": "wanfinetunes",
    "WanInferenceService": "waninferenceservices",
    "WanEvaluation": "wanevaluations",
}
VALUES = {"endpoint": "http://minio:9000"}
ROOMY = {"cpu": "64", "memory": "512Gi", "pods": "500", "ephemeral-storage": "4Ti"}


@pytest.mark.parametrize("row", mistakes("apply"), ids=lambda row: row.name)
def test_refused_when_it_is_applied(
    apiserver: ApiServer, crd: Raw, namespace: str, row: Mistake
) -> None:
    def apply(fragment: Raw) -> None:
        [manifest] = manifests(row, [fragment], VALUES | {"namespace": namespace})
        group = f"/apis/{manifest['apiVersion']}/namespaces/{namespace}"
        query = "dryRun=All&fieldValidation=Strict"
        apiserver.request("POST", f"{group}/{PLURALS[manifest['kind']]}?{query}", manifest)

    with pytest.raises(ApiError) as refused:
        apply(row.apply[-1])
    for word in row.says:
        assert word in str(refused.value)
    mended = {"kind": row.apply[-1]["kind"], "name": "mended"}
    apply(mended | (row.mend[0] if row.mend else {}))


@pytest.mark.parametrize("row", mistakes("chart"), ids=lambda row: row.name)
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
def kubernetes(apiserver: ApiServer, crd: Raw) -> Iterator[ApiServer]:
    """Here with the controllers of Jobs, Deployments and quotas, and the scheduler."""
    port = free_port()
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
def nodes(kubernetes: ApiServer) -> Iterator[Nodes]:
    made = Nodes(kubernetes)
    made.put({"name": "roomy", "gpus": 4})
    for product in ("NVIDIA-H200", "NVIDIA-L40", "NVIDIA-L4"):
        made.put(
            {"name": product.lower(), "labels": {"nvidia.com/gpu.product": product}, "gpus": 4}
        )
    yield made
    made.remove()


def sheet_of(server: ApiServer, namespace: str, rows: Sequence[Mistake]) -> Sheet:
    """The rows together, in namespaces that are made for them."""

    def kubectl(*arguments: str, text: str | None = None) -> str:
        return server.kubectl(*arguments, stdin=text).stdout

    apart = {row.name: f"{namespace}-{row.name}" for row in rows if row.alone}
    for each in apart.values():
        server.request("POST", "/api/v1/namespaces", {"metadata": {"name": each}})
    return Sheet(kubectl, rows, namespace, apart, VALUES)


class Kubelet:
    """Stands in for those of the nodes: removes pods that are deleted, lets gateways answer, and
    pulls no image but the right one."""

    def __init__(self, server: ApiServer, sheet: Sheet) -> None:
        self.server, self.namespaces = server, set(sheet.places.values())

    def __call__(self) -> None:
        bound = self.server.request("GET", "/api/v1/pods?fieldSelector=spec.nodeName!=")
        for pod in bound["items"]:
            namespace, name = (pod["metadata"][key] for key in ("namespace", "name"))
            if namespace in self.namespaces:
                try:
                    self._sync(pod, f"/api/v1/namespaces/{namespace}/pods/{name}")
                except ApiError as error:
                    if error.code != 404:  # gone since it was listed
                        raise

    def _sync(self, pod: Raw, path: str) -> None:
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        [container] = pod["spec"]["containers"]
        if "deletionTimestamp" in pod["metadata"]:
            self.server.request("DELETE", path, {"gracePeriodSeconds": 0})
        elif "@sha256:" not in container["image"]:
            waiting = {"reason": "ErrImagePull", "message": "not found"}
            state = {"name": container["name"], "state": {"waiting": waiting}}
            blank = {"ready": False, "restartCount": 0, "image": "", "imageID": ""}
            self._report(path, {"containerStatuses": [state | blank]})
        elif component == "gateway" and pod["status"]["phase"] == "Pending":
            ready = {"type": "Ready", "status": "True"}
            self._report(path, {"phase": "Running", "conditions": [ready]})

    def _report(self, path: str, status: Raw) -> None:
        body, content_type = {"status": status}, "application/merge-patch+json"
        self.server.request("PATCH", f"{path}/status", body, content_type=content_type)


def test_the_cause_is_in_the_table_and_what_is_mended_heals(
    kubernetes: ApiServer, operator: Operator, namespace: str, nodes: Nodes
) -> None:
    sheet = sheet_of(kubernetes, namespace, mistakes("scheduler"))
    operator.settings |= {"WAN_WATCH_NAMESPACES": ",".join(sorted(set(sheet.places.values())))}
    operator.start()
    kubelet = Kubelet(kubernetes, sheet)

    for node in (node for row in sheet.rows for node in row.nodes):
        nodes.put(node)
    sheet.apply(lambda row: row.apply)
    missing = sheet.missing(lambda row: row.says, CAUSE_SECONDS, kubelet)

    for node in (node for row in sheet.rows for node in row.mend_nodes):
        nodes.put(node)
    sheet.apply(lambda row: row.mend)
    missing += sheet.missing(lambda row: row.heals, HEAL_SECONDS, kubelet)
    print(sheet.report())
    assert not missing, "\n".join(missing)


def test_mended_settings_heal(
    kubernetes: ApiServer, operator: Operator, namespace: str, nodes: Nodes
) -> None:
    sheet = sheet_of(kubernetes, namespace, mistakes("settings"))
    right = {"WAN_DATABASE_SECRET": "wan-database"}
    operator.settings = dict(right)
    for row in sheet.rows:
        operator.settings |= row.settings
    operator.start()
    kubelet = Kubelet(kubernetes, sheet)
    sheet.apply(lambda row: row.apply)
    missing = sheet.missing(lambda row: row.says, CAUSE_SECONDS, kubelet)

    sheet.apply(lambda row: row.mend)
    operator.terminate()
    operator.settings = right
    operator.start()
    missing += sheet.missing(lambda row: row.heals, HEAL_SECONDS, kubelet)
    print(sheet.report())
    assert not missing, "\n".join(missing)
