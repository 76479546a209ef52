"""`make measure`: the figures of docs/measurements.md that need a cluster.

Seconds from `kubectl apply` to the first training step, split by step; the operator's memory and
its writes to the API server while 100 suspended runs are at rest; seconds from the end of a quota
that let runs have no pod to their containers.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path

from clips import CUTS, write_dataset
from conftest import finetune
from finetunes import Run
from stack import BUCKET, SYSTEM_NAMESPACE, CommandError, Manifest, Stack, wait_until

IDLE_RUNS = 100
REST_SECONDS = 60.0
REFUSED_RUNS = 5
REFUSED_SECONDS = 240.0
WRITES = "wan_operator_api_writes_total"


def main() -> int:
    stack = Stack.ensure(say=lambda text: print(text, file=sys.stderr))
    namespace = f"measure-{uuid.uuid4().hex[:8]}"
    stack.make_namespace(namespace)
    try:
        time_to_first_step(stack, namespace)
        rest(stack, namespace)
        mended_quotas(stack, namespace)
    finally:
        stack.kubectl("delete", "namespace", namespace, "--wait=false")
    return 0


def time_to_first_step(stack: Stack, namespace: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder))
        stack.upload(Path(folder), "measure")
    # A prefix of its own: nothing is in the latent cache yet.
    store = {"prefix": namespace}
    manifest = finetune(stack, namespace, "first-step", f"s3://{BUCKET}/measure")
    manifest["spec"]["store"] |= store
    run = Run(stack, namespace, "first-step")
    began = time.monotonic()
    stack.apply(manifest)
    wait_until(lambda: run.training_step() >= 1, seconds=300, what=run.story, every=0.1)
    total = time.monotonic() - began
    print(
        f"kubectl apply to first training step, {len(CUTS)} clips, cold latent cache: {total:.1f} s"
    )
    run.wait_complete()
    for step in run.status()["steps"]:
        seconds = (when(step["completionTime"]) - when(step["startTime"])).total_seconds()
        print(f"  {step['name']}: {seconds:.0f} s")


def when(time_: str) -> datetime:
    return datetime.fromisoformat(time_)


def rest(stack: Stack, namespace: str) -> None:
    manifests = [
        finetune(stack, namespace, f"idle-{number}", f"s3://{BUCKET}/measure", suspend=True)
        for number in range(IDLE_RUNS)
    ]
    stack.apply(*manifests)

    def settled() -> bool:
        found = stack.get("-n", namespace, "wft")["items"]
        states = [item.get("status", {}).get("conditions", [{}])[0].get("type") for item in found]
        return states.count("Suspended") == IDLE_RUNS

    wait_until(settled, seconds=120, what=f"{IDLE_RUNS} suspended runs")
    before = writes(stack)
    time.sleep(REST_SECONDS)  # the measure is what happens in a stretch of time
    after = writes(stack)
    rss = metric(stack, "process_resident_memory_bytes") / 2**20
    told = f"{rss:.0f} MiB RSS, {after - before:.0f} writes in {REST_SECONDS:.0f} s"
    print(f"{IDLE_RUNS} idle runs: {told}")


def mended_quotas(stack: Stack, prefix: str) -> None:
    """One quota after another is raised, each of a namespace with one run."""
    places = [f"{prefix}-quota-{number}" for number in range(REFUSED_RUNS)]
    try:
        for place in places:
            stack.make_namespace(place)
            held = finetune(stack, place, "held", f"s3://{BUCKET}/{place}")
            stack.apply(quota(place, pods=0), held)
        time.sleep(REFUSED_SECONDS)  # the pauses of the controller of Jobs grow with it
        seconds = [seconds_to_container(stack, place) for place in places]
    finally:
        stack.kubectl("delete", "namespace", *places, "--wait=false", "--ignore-not-found")
    each = ", ".join(f"{each:.1f}" for each in seconds)
    print(f"a quota is raised to a running container: {each}; at most {max(seconds):.1f} s")


def seconds_to_container(stack: Stack, place: str) -> float:
    run = Run(stack, place, "held")
    if run.pods():
        raise CommandError(f"{place} has a pod: {run.story()}")
    began = time.monotonic()
    stack.apply(quota(place, pods=9))

    def runs() -> bool:
        return any(pod["status"]["phase"] != "Pending" for pod in run.pods())

    wait_until(runs, seconds=120, what=run.story, every=0.1)
    return time.monotonic() - began


def quota(namespace: str, *, pods: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": namespace},
        "spec": {"hard": {"pods": str(pods)}},
    }


def writes(stack: Stack) -> float:
    """Requests that changed something. The Lease, renewed with PUT every few seconds, is left out:
    nothing else is written with PUT."""
    return metric(stack, WRITES, without="PUT")


def metric(stack: Stack, name: str, without: str = "\0") -> float:
    """Sum of a metric of the operator over its labels, those that hold `without` left out."""
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{stack.operator_pod()}:8080/proxy/metrics"
    text = stack.kubectl("get", "--raw", path)
    lines = [line for line in text.splitlines() if re.match(rf"{name}(\{{| )", line)]
    return sum(float(line.rpartition(" ")[2]) for line in lines if without not in line)


if __name__ == "__main__":
    sys.exit(main())
