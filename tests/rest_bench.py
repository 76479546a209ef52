"""Writes at rest at a real API server, with the default settings, a restart included:
`WAN_BIN=FOLDER PYTHONPATH=operator:runtime:tests python tests/rest_bench.py --seconds 600`.

Needs etcd, kube-apiserver, kube-controller-manager and kubectl in WAN_BIN.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from integration.apiserver import ApiServer
from integration.cluster import Cluster
from integration.operator_process import Operator, controllers
from integration.rest import SETTINGS, grown, resting
from integration.runs import CRDS

NAMESPACE = "rest"


def measure(server: ApiServer, seconds: float) -> None:
    """Prints the writes by resource, and the requests that read."""
    server.kubectl("apply", "-f", str(CRDS))
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    operator = Operator(server, NAMESPACE)
    with resting(Cluster(server, NAMESPACE), operator) as rest:
        operator.terminate()
        for name in (*SETTINGS, "WAN_RETRY_BASE_SECONDS"):
            operator.settings[name] = ""
        before = rest.writes()
        operator.start()
        time.sleep(seconds)
        print(f"{seconds:.0f} s at rest: writes {grown(before, rest.writes()) or 0}", flush=True)
        text = operator.get("/metrics")[1]
        for line in text.splitlines():
            if line.startswith(("wan_operator_api_writes_total", "wan_operator_sweeps_total")):
                print(line)
            if line.startswith('wan_operator_api_seconds_count{method="GET"'):
                print(line)
        operator.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    wanted = parser.parse_args().seconds
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer.started(Path(os.environ["WAN_BIN"]), Path(folder)) as started,
        controllers(started),
    ):
        measure(started, wanted)
