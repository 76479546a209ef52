"""Fixtures of the end-to-end tests: the product on a cluster, a namespace, clips in the bucket,
runs.

Each scenario file has its own namespace, removed at its end. Runs share the latent cache of one
prefix, as a team's runs do, and train so little that a whole run takes about a minute on two cores.

The tests run in several processes (pytest-xdist), which share the cluster, the data sets and the
reference run. Most of a run is waiting, so that its neighbours cost it little; a test that breaks
what all of them use is marked `alone`.
"""

from __future__ import annotations

import fcntl
import pickle
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import av
import pytest

from clips import CUTS, Cut, write_dataset
from finetunes import Run
from services import Service, manifest
from stack import BUCKET, STORE_SECRET, TIMEOUT, Manifest, Stack, wait_until
from surroundings import surroundings

# Enough to split, quick to encode.
FEW = (CUTS[0], CUTS[2], CUTS[3], CUTS[5])

# Rendering takes as long as training here: only where the videos are looked at.
SAMPLED = {"everySteps": 40, "samples": 1, "inferenceSteps": 2}

# Steps of more than a tenth of a second, where a test has to meet one in the middle.
SLOW = {"gradientAccumulation": 4}

LONG = ("test_experts", "test_faults", "test_full", "test_serving", "test_store_shared")

LIMIT = 3600
"""Seconds of a test itself. What comes before does not count: images that are built, neighbours
that are waited for, each as long as a test."""

MODEL_CACHE = "model-cache"
"""Claim that pods of imported models mount; the others know nothing of it."""

T = TypeVar("T")


class Once(Protocol):
    def __call__(self, name: str, make: Callable[[], T]) -> T: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, to end with the others; those that wait for all others last. Each has
    LIMIT."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return item.get_closest_marker("alone") is not None, item.path.stem not in LONG

    items.sort(key=place)
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(LIMIT, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure has what the cluster looked like, which is gone by the time that it is read."""
    report = yield
    used = getattr(item, "funcargs", {})
    if report.failed and "stack" in used:
        namespaces = {
            *(value.namespace for value in used.values() if isinstance(value, Run | Service)),
            *(value for name, value in used.items() if name == "namespace"),
        }
        report.sections.append(("cluster", surroundings(used["stack"], namespaces)))
    return report


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of the session see."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def once(folder: Path) -> Once:
    """Makes a thing in the first process that asks for its name; the others wait for it."""

    def make_or_wait(name: str, make: Callable[[], T]) -> T:
        with (folder / name).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if made := file.read():
                return cast(T, pickle.loads(made))
            answer = make()
            file.write(pickle.dumps(answer))
            return answer

    return make_or_wait


@pytest.fixture(scope="session")
def stack(once: Once) -> Stack:
    cache = {"modelCache.persistentVolumeClaim": MODEL_CACHE}
    return once("stack", lambda: Stack.ensure(say=print, **cache))


@pytest.fixture(autouse=True)
def company(request: pytest.FixtureRequest, folder: Path) -> Iterator[None]:
    """No test beside one that is marked `alone`."""
    alone = request.node.get_closest_marker("alone") is not None
    with (folder / "company").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="module")
def namespace(stack: Stack) -> Iterator[str]:
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    stack.make_namespace(name)
    yield name
    stack.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def upload(
    stack: Stack, once: Once, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Uploads a dataset of these cuts, after `spoil(folder)`, and answers its s3:// address."""

    def put(
        name: str, cuts: tuple[Cut, ...] = FEW, spoil: Callable[[Path], None] | None = None
    ) -> str:
        def make() -> str:
            clips = tmp_path_factory.mktemp("dataset")
            write_dataset(clips, cuts)
            if spoil:
                spoil(clips)
            stack.upload(clips, f"e2e-datasets/{name}")
            return f"s3://{BUCKET}/e2e-datasets/{name}"

        return once(f"dataset-{name}", make)

    return put


@pytest.fixture(scope="session")
def dataset(upload: Callable[..., str]) -> str:
    return upload("good")


@pytest.fixture(scope="session", autouse=True)
def reference(stack: Stack, once: Once, folder: Path, dataset: str) -> Iterator[Run]:
    """A run that nothing happens to; what others are compared with, once it is complete.

    It starts before any test, and the last process that holds it removes it.
    """

    def begin() -> str:
        namespace = f"e2e-{uuid.uuid4().hex[:8]}"
        stack.make_namespace(namespace)
        stack.apply(finetune(stack, namespace, "reference", dataset, validation=SAMPLED))
        return namespace

    with (folder / "reference.held").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        namespace = once("reference", begin)
        yield Run(stack, namespace, "reference")
        with suppress(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        stack.kubectl("-n", namespace, "delete", "wft", run.name, "--ignore-not-found", TIMEOUT)
        wait_until(run.gone, what=f"pods of {run.name} gone")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frame of a real clip: what videos begin with."""
    folder = tmp_path_factory.mktemp("picture")
    write_dataset(folder, (CUTS[0],))
    clip = next(folder.rglob("*.mp4"))
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))
    path = folder / "first.png"
    frame.to_image().save(path)
    return path


@pytest.fixture
def serve(stack: Stack, namespace: str) -> Iterator[Callable[..., Service]]:
    """Applies a service that waits for nothing, unless it is told to; removes it after the test."""
    made: list[Service] = []

    def begin(name: str, **spec: object) -> Service:
        service = Service(stack, namespace, name)
        made.append(service)
        gateway = {"keysSecretRef": {"name": "wan-keys"}, "replicas": 1}
        wanted = {"adapters": [], "effects": [], "gateway": gateway} | spec
        stack.apply(manifest(stack, namespace, name, **wanted))
        return service

    yield begin
    for service in made:
        stack.kubectl("-n", namespace, "delete", "wis", service.name, "--ignore-not-found", TIMEOUT)
        wait_until(service.gone, what=f"pods of {service.name} gone")


def finetune(stack: Stack, namespace: str, name: str, source: str, **overrides: Any) -> Manifest:
    """A WanFineTune that is quick on a CPU; `overrides` replace whole fields of the spec."""
    return {
        "apiVersion": "wan-operator.dev/v1alpha1",
        "kind": "WanFineTune",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"preset": "Wan2.1-I2V-Tiny"},
            "dataset": {"source": source, "frames": 9, "width": 64, "height": 48},
            "method": {"lora": {"rank": 4, "learningRate": 3e-4}},
            "training": {"steps": 80},
            "checkpoint": {"everySteps": 10},
            "validation": {"everySteps": 40, "samples": 0, "inferenceSteps": 2},
            # Half a core each, the default, would leave no room for several runs on two.
            "resources": {"cpu": "100m"},
            "store": {
                "endpoint": stack.endpoint,
                "bucket": BUCKET,
                "prefix": "e2e",
                "secretRef": {"name": STORE_SECRET},
            },
            **overrides,
        },
    }
