"""Session-wide runs on the tiny models: each stage is made once and shared by all tests.

A plugin of the test modules (`pytest_plugins`); never imported, or its fixtures would be made anew.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from job_files import sized
from ml_runs import Run
from model_bucket import Bucket
from moving import moving_picture
from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.models import tiny
from wan_runtime.models.layout import ModelFiles, locate
from wan_runtime.presets import PRESETS
from wan_runtime.process import stopping


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tensors this small gain nothing from threads, and threads waiting on a busy machine spin."""
    torch.set_num_threads(1)


@pytest.fixture
def sigterm() -> Iterator[None]:
    """The runtime's handler, as the step's entry point installs it; everything put back after."""
    before = signal.getsignal(signal.SIGTERM)
    stopping.install()
    yield
    signal.signal(signal.SIGTERM, before)
    stopping._requested.clear()


@pytest.fixture(scope="session")
def ml_store(server: ObjectStore) -> Iterator[Store]:
    """A store for the whole session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        yield Store.connect(server.spec(prefix="ml"), patience=Patience(seconds=1))


@pytest.fixture(scope="session")
def tiny21(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """Wan2.1-I2V-Tiny on disk."""
    folder = tmp_path_factory.mktemp("tiny21")
    tiny.write(PRESETS["Wan2.1-I2V-Tiny"], folder)
    return locate(PRESETS["Wan2.1-I2V-Tiny"], folder)


@pytest.fixture(scope="session")
def tiny22(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """Wan2.2-I2V-Tiny on disk."""
    folder = tmp_path_factory.mktemp("tiny22")
    tiny.write(PRESETS["Wan2.2-I2V-Tiny"], folder)
    return locate(PRESETS["Wan2.2-I2V-Tiny"], folder)


@pytest.fixture
def folder(tiny21: ModelFiles, tmp_path: Path) -> Path:
    """A copy of Wan2.1-I2V-Tiny, to be spoiled."""
    return Path(shutil.copytree(tiny21.folder, tmp_path / "models" / "tiny"))


@pytest.fixture
def pair(tiny22: ModelFiles, tmp_path: Path) -> Path:
    """A copy of Wan2.2-I2V-Tiny, to be spoiled."""
    return Path(shutil.copytree(tiny22.folder, tmp_path / "models" / "pair"))


@pytest.fixture
def bucket(ml_store: Store, tmp_path: Path) -> Bucket:
    """Where Wan2.1-I2V-Tiny can be uploaded to."""
    return Bucket(ml_store, f"models/{tmp_path.name}", "Wan2.1-I2V-Tiny", tmp_path)


@pytest.fixture(scope="session")
def encoded21(
    ml_store: Store, server: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A Wan2.1 run, prepared and encoded. Fork it to train."""
    return _encoded(ml_store, server, tmp_path_factory, "Wan2.1-I2V-Tiny")


@pytest.fixture(scope="session")
def encoded22(
    ml_store: Store, server: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A Wan2.2 run, prepared and encoded."""
    return _encoded(ml_store, server, tmp_path_factory, "Wan2.2-I2V-Tiny")


@pytest.fixture(scope="session")
def mixed21(ml_store: Store, server: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A Wan2.1 run over two buckets, prepared and encoded: of its clips, five are wide and long,
    three tall and short."""
    folder = tmp_path_factory.mktemp("runs") / "mixed21"
    run = Run(ml_store, server.spec(prefix="ml"), folder, "Wan2.1-I2V-Tiny")
    # Held out are two wide ones and a tall one, in this order.
    run.dataset = {
        "buckets": [sized(64, 48, 9), sized(48, 64, 5)],
        "trainFraction": 0.6,
        "splitSeed": 4,
    }
    wide = [moving_picture(number, 12, 80, 60) for number in range(5)]
    run.upload([*wide, *(moving_picture(number, 7, 48, 64) for number in range(5, 8))])
    run.go(Step.PREPARE)
    run.go(Step.ENCODE)
    return run


@pytest.fixture(scope="session")
def exported21(encoded21: Run) -> Run:
    """A Wan2.1 run trained for long enough to learn something, and exported."""
    run = encoded21.fork("exported21")
    run.go(Step.TRAIN, training={"steps": 40})
    run.go(Step.EXPORT)
    return run


@pytest.fixture(scope="session")
def exported22(encoded22: Run) -> Run:
    """A Wan2.2 run with both experts trained a little, and exported."""
    run = encoded22.fork("exported22")
    run.go(Step.TRAIN, Expert.HIGH_NOISE)
    run.go(Step.TRAIN, Expert.LOW_NOISE)
    run.go(Step.EXPORT)
    return run


@pytest.fixture(scope="session")
def full21(encoded21: Run) -> Run:
    """As exported21, with all weights trained."""
    run = encoded21.fork("full21", "full")
    run.go(Step.TRAIN, training={"steps": 40})
    run.go(Step.EXPORT)
    return run


def _encoded(
    store: Store, server: ObjectStore, factory: pytest.TempPathFactory, preset: str
) -> Run:
    name = "encoded21" if "2.1" in preset else "encoded22"
    run = Run(store, server.spec(prefix="ml"), factory.mktemp("runs") / name, preset)
    run.upload_clips()
    run.go(Step.PREPARE)
    run.go(Step.ENCODE)
    return run
