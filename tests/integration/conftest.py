"""One API server for the whole session, a namespace of its own for each test."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.apiserver import ApiServer
from integration.cluster import Cluster
from integration.operator_process import Operator, controllers, eventually, wait_served
from integration.runs import CRDS, Manifest, Runs

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Fails, never skips: without a server these tests would prove nothing."""
    assert "WAN_BIN" in os.environ, (
        "WAN_BIN must name a folder with etcd, kube-apiserver and kubectl"
    )
    with ApiServer.started(
        Path(os.environ["WAN_BIN"]), tmp_path_factory.mktemp("apiserver")
    ) as server:
        yield server


@pytest.fixture
def namespace(apiserver: ApiServer) -> str:
    name = f"test-{next(_numbers)}"
    apiserver.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture(scope="session")
def crd(apiserver: ApiServer) -> Manifest:
    """Applied as a user would, and established."""
    apiserver.kubectl("apply", "-f", str(CRDS))

    # `kubectl wait` fails on an object whose conditions nobody has written yet.
    def established(plural: str) -> Manifest | None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        found: Manifest = apiserver.request("GET", f"{path}/{plural}.wan-operator.dev")
        conditions = found.get("status", {}).get("conditions") or []
        true = {each["type"] for each in conditions if each["status"] == "True"}
        return found if "Established" in true else None

    for plural in ("waninferenceservices", "wanevaluations"):
        eventually(functools.partial(established, plural), "the CRD to be established")
    found = eventually(lambda: established("wanfinetunes"), "the CRD to be established")
    wait_served(apiserver, "wan,wft,wis,wev")
    return found


@pytest.fixture
def runs(apiserver: ApiServer, crd: Manifest, namespace: str) -> Runs:
    return Runs(apiserver, namespace)


@pytest.fixture
def services(apiserver: ApiServer, crd: Manifest, namespace: str) -> Runs:
    return Runs(apiserver, namespace, "waninferenceservices")


@pytest.fixture
def evaluations(apiserver: ApiServer, crd: Manifest, namespace: str) -> Runs:
    return Runs(apiserver, namespace, "wanevaluations")


@pytest.fixture(scope="module")
def kubernetes(apiserver: ApiServer, crd: Manifest) -> Iterator[ApiServer]:
    """With the CRD and the controllers of Jobs and of garbage."""
    with controllers(apiserver):
        yield apiserver


@pytest.fixture
def cluster(kubernetes: ApiServer, namespace: str) -> Cluster:
    return Cluster(kubernetes, namespace)


@pytest.fixture
def operator(kubernetes: ApiServer, namespace: str) -> Iterator[Operator]:
    running = Operator(kubernetes, namespace)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.terminate()
