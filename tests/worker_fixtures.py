"""A service of each test module's own, with an adapter; its workers are the tests'.

A plugin of the test modules (`pytest_plugins`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import torch

from forked_modules import forked_ranks
from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from postgres import Postgres
from renders import write_lora
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.service import AdapterSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.models import tiny
from wan_runtime.models.layout import locate
from wan_runtime.models.load import load_dit
from wan_runtime.presets import PRESETS
from worker_service import Service


@pytest.fixture(scope="module")
def objects(server: ObjectStore) -> Iterator[ObjectStore]:
    """With its credentials in the environment, for the ranks too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def video_service(
    postgres: Postgres, objects: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    preset = PRESETS["Wan2.1-I2V-Tiny"]
    tiny.write(preset, folder / "model")
    dit = load_dit(
        locate(preset, folder / "model"), Expert.ONLY, torch.float32, torch.device("cpu")
    )
    store = Store.connect(objects.spec())
    store.put_file("lora/good", write_lora(folder / "good.safetensors", dit, 1))
    good = AdapterSpec(name="good", files={Expert.ONLY: store.uri("lora/good")})
    opened = await Service.open(postgres.url(), objects, folder / "model", folder, good)
    with forked_ranks():
        yield opened
    await opened.queue.close()
