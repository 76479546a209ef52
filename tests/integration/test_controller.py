"""The operator against a real API server: its whole life, killed at every point, at rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.apiserver import ApiServer
from integration.test_controller_support import (
    ROOT,
    STEPS,
    Cluster,
    Operator,
    controllers,
)


@pytest.fixture(scope="module")
def kubernetes(apiserver: ApiServer) -> Iterator[ApiServer]:
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    apiserver.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
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


def test_runs_to_its_weights(cluster: Cluster, operator: Operator) -> None:
    operator.start()
    cluster.create("demo")
    cluster.walk("demo", *STEPS)
    done = cluster.wait_condition("demo", "Complete", "Completed")
    status = cluster.get("demo")["status"]
    assert "s3://wan/x/export/manifest.json" in done["message"]
    assert status["conditions"][0]["type"] == "Complete"
    assert [step["state"] for step in status["steps"]] == ["Complete"] * 4
    assert status["artifact"]["sha256"] == "a" * 64
    assert status["observedGeneration"] == 1
    assert cluster.job_names("demo") == sorted(f"demo-{step}-1" for step in STEPS)
    assert operator.terminate() == 0
