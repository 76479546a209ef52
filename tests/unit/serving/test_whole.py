"""Two gateways and three workers as processes, random kills, and the `openai` SDK as the client:
every accepted video ends once, and none is lost."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import openai
import pytest

from object_store import ObjectStore
from running_gateway import KEYS, service_spec
from unit.serving.test_pictures import picture
from unit.serving.test_server import Processes
from wan_runtime.models import tiny
from wan_runtime.presets import PRESETS

pytest_plugins = ["gateway_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

VIDEOS = int(os.environ.get("WAN_SOAK_VIDEOS", "12"))
KILLS = VIDEOS // 3


class Whole(Processes):
    """A service of Wan2.1-I2V-Tiny, small and quick."""

    def __init__(self, folder: Path, server: ObjectStore, database: str) -> None:
        super().__init__(folder, server, database)
        tiny.write(PRESETS["Wan2.1-I2V-Tiny"], folder / "model")
        service = service_spec(
            server,
            f"w{time.monotonic_ns():x}",
            model={"preset": "Wan2.1-I2V-Tiny", "path": str(folder / "model")},
            sizes=[{"width": 64, "height": 48}],
            defaults={"frames": 5, "steps": 6},
            adapters=[],
            effects=[],
        )
        (folder / "service.json").write_text(service.model_dump_json(by_alias=True))
        self.workers: list[subprocess.Popen[str]] = []

    def start_worker(self) -> None:
        number = len(self.running)
        with (self.folder / f"worker-{number}.log").open("w") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "wan_runtime", "worker"),
                    *("--service", str(self.folder / "service.json")),
                    *("--work", str(self.folder / f"work-{number}")),
                ],
                env={**self.environment, "WAN_PROGRESS_PORT": "0"},
                stdout=log,
                stderr=log,
                text=True,
            )
        self.running.append(process)
        self.workers.append(process)


@pytest.fixture
def whole(tmp_path: Path, server: ObjectStore, database: str) -> Iterator[Whole]:
    made = Whole(tmp_path, server, database)
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


@pytest.mark.timeout(600)
def test_nothing_is_lost_while_anything_is_killed(whole: Whole) -> None:
    draw = random.Random(20261123)
    gateways = [whole.start() for _ in range(2)]
    for _ in range(3):
        whole.start_worker()
    for process, http in gateways:
        whole.ready(process, http)
    clients = [
        openai.OpenAI(base_url=f"{http.base_url}/v1", api_key=KEYS["app"]) for _, http in gateways
    ]
    photo = picture(200, 150, "JPEG")
    wanted = {}
    for number in range(VIDEOS):
        file = io.BytesIO(photo)
        file.name = "photo.jpg"
        made = clients[number % 2].videos.create(
            prompt=f"video {number}", input_reference=file, extra_body={"seed": number}
        )
        wanted[made.id] = number
    killed = 0
    deadline = time.monotonic() + 540
    while True:
        videos = {video.id: video for video in clients[0].videos.list(limit=100)}
        ended = [video for video in videos.values() if video.status in ("completed", "failed")]
        if len(ended) == VIDEOS:
            break
        assert time.monotonic() < deadline, [video.status for video in videos.values()]
        if killed < KILLS and len(ended) > killed:
            victim = draw.choice([each for each in whole.workers if each.poll() is None])
            victim.kill()
            victim.wait()
            whole.start_worker()
            killed += 1
        time.sleep(0.2)
    assert killed == KILLS
    assert set(videos) == set(wanted), "none is lost and none is made up"
    assert [video.error for video in ended if video.status == "failed"] == []
    for video_id, number in wanted.items():
        content = clients[number % 2].videos.download_content(video_id).read()
        with av.open(io.BytesIO(content)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert (videos[video_id].prompt, frames) == (f"video {number}", 5)
    for client in clients:
        client.close()
    for _, http in gateways:
        http.close()
