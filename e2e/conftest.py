"""Fixtures of the end-to-end tests: the product on a cluster, a namespace, clips in the bucket,
runs.

Each scenario file has its own namespace, removed at its end. Runs share the latent cache of one
prefix, as a team's runs do, and train so little that a whole run takes about a minute on two cores.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clips import CUTS, Cut, write_dataset
from finetunes import RUN_SECONDS, Run
from stack import BUCKET, STORE_SECRET, Manifest, Stack, wait_until

# One clip of each recording and a second of one: enough to split, quick to encode.
FEW = (CUTS[0], CUTS[1], CUTS[8], CUTS[9])

# Rendering takes as long as training here: only where the videos are looked at.
SAMPLED = {"everySteps": 40, "samples": 1, "inferenceSteps": 2}


@pytest.fixture(scope="session")
def stack() -> Stack:
    return Stack.ensure(say=print)


@pytest.fixture(scope="module")
def namespace(stack: Stack) -> Iterator[str]:
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    stack.make_namespace(name)
    yield name
    stack.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def upload(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Uploads a dataset of these cuts, after `spoil(folder)`, and answers its s3:// address."""

    def put(
        name: str, cuts: tuple[Cut, ...] = FEW, spoil: Callable[[Path], None] | None = None
    ) -> str:
        folder = tmp_path_factory.mktemp("dataset")
        write_dataset(folder, cuts)
        if spoil:
            spoil(folder)
        stack.upload(folder, f"e2e-datasets/{name}")
        return f"s3://{BUCKET}/e2e-datasets/{name}"

    return put


@pytest.fixture(scope="session")
def dataset(upload: Callable[..., str]) -> str:
    return upload("good")


@pytest.fixture(scope="session")
def reference(stack: Stack, dataset: str) -> Iterator[Run]:
    """A whole run that nothing happens to; what others are compared with."""
    namespace = f"e2e-{uuid.uuid4().hex[:8]}"
    stack.make_namespace(namespace)
    stack.apply(finetune(stack, namespace, "reference", dataset, validation=SAMPLED))
    # What a user types; it returns when the weights are in the bucket.
    stack.kubectl(
        "-n",
        namespace,
        "wait",
        "--for=condition=Complete",
        "wft/reference",
        f"--timeout={RUN_SECONDS}s",
    )
    yield Run(stack, namespace, "reference")
    stack.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def start(stack: Stack, namespace: str, dataset: str) -> Iterator[Callable[..., Run]]:
    """Applies a WanFineTune of few steps on the good dataset; removes it after the test."""
    runs: list[Run] = []

    def begin(name: str, **overrides: Any) -> Run:
        run = Run(stack, namespace, name)
        runs.append(run)
        stack.apply(finetune(stack, namespace, name, dataset, **overrides))
        return run

    yield begin
    for run in runs:
        stack.kubectl("-n", namespace, "delete", "wft", run.name, "--ignore-not-found", "--wait")
        wait_until(run.gone, seconds=150, what=f"pods of {run.name} gone")


def finetune(stack: Stack, namespace: str, name: str, source: str, **overrides: Any) -> Manifest:
    """A WanFineTune that is quick on a CPU; `overrides` replace whole fields of the spec."""
    return {
        "apiVersion": "wan-operator.dev/v1alpha1",
        "kind": "WanFineTune",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"preset": "Wan2.1-I2V-Tiny"},
            "dataset": {"source": source, "frames": 9, "width": 64, "height": 48},
            "method": {"lora": {"rank": 4, "learningRate": 1e-3}},
            "training": {"steps": 80},
            "checkpoint": {"everySteps": 10},
            "validation": {"everySteps": 40, "samples": 0, "inferenceSteps": 2},
            "store": {
                "endpoint": stack.endpoint,
                "bucket": BUCKET,
                "prefix": "e2e",
                "secretRef": {"name": STORE_SECRET},
            },
            **overrides,
        },
    }
