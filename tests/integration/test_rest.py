"""What is at rest is not written to, whatever kinds and options are in use."""

from __future__ import annotations

from integration.cluster import Cluster
from integration.operator_process import Operator
from integration.rest import resting


def test_nothing_is_written_at_rest(cluster: Cluster, operator: Operator) -> None:
    with resting(cluster, operator) as rest:
        rest.settle(4)
