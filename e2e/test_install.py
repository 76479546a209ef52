"""What all other tests stand on: the cluster's network; the chart as it is installed, its own test,
and a refusal before any pod."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import pytest

from cluster.layout import SERVICE_CIDR
from finetunes import Run
from stack import RELEASE, SYSTEM_NAMESPACE, TIMEOUT, Stack


def test_what_is_for_a_service_does_not_leave_the_machine(stack: Stack) -> None:
    """As between the two halves of kube-proxy's change to a Service."""
    unused = ipaddress.ip_network(SERVICE_CIDR)[-2]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(unused), 80), timeout=20)


def test_helm_tests_the_release(stack: Stack) -> None:
    shown = stack.helm("test", RELEASE, "--namespace", SYSTEM_NAMESPACE, TIMEOUT)
    assert "Phase:          Succeeded" in shown


def test_a_run_too_large_for_its_gpu_starts_no_pod(start: Callable[..., Run]) -> None:
    run = start(
        "too-large",
        model={
            "preset": "Wan2.1-I2V-14B-720P",
            "source": {"persistentVolumeClaim": {"claimName": "models"}},
        },
        podTemplate={
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-2g.20gb"}
        },
    )
    stalled = run.wait_stalled()
    assert stalled["reason"] == "DoesNotFit", stalled
    assert "it fits with" in stalled["message"], stalled
    assert not run.jobs()
    assert not run.pods()
