"""Two gateways and three workers as processes, random kills, and the `openai` SDK as the client:
every accepted video ends once, and none is lost."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import httpx
import openai
import pytest

from forked_modules import Forked, forked_ranks
from object_store import ObjectStore
from running_gateway import KEYS
from serving_processes import Whole
from unit.serving.test_pictures import picture

pytest_plugins = ["gateway_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

VIDEOS = int(os.environ.get("WAN_SOAK_VIDEOS", "10"))
KILLS = VIDEOS // 3
LIMIT = 300 + 30 * VIDEOS
"""Seconds; each killed worker costs the rest of its lease and the start of another."""


class Forks(Whole):
    """Workers and their ranks are forks of this process."""

    run = staticmethod(partial(Forked, shares="wan_runtime.serving.worker.rank"))


@pytest.fixture
def whole(tmp_path: Path, server: ObjectStore, database: str) -> Iterator[Whole]:
    made = Forks(tmp_path, server, database)
    with forked_ranks():
        yield made
    made.close()


def sdk(whole: Whole, http: httpx.Client) -> openai.OpenAI:
    """A client of the same gateway."""
    client = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key=KEYS["app"])
    return whole.clients.enter_context(client)


@pytest.mark.timeout(LIMIT + 60)
def test_nothing_is_lost_while_anything_is_killed(whole: Whole) -> None:
    draw = random.Random(20261123)
    gateways = [whole.start() for _ in range(2)]
    for _ in range(3):
        whole.start_worker()
    for process, http in gateways:
        whole.ready(process, http)
    clients = [sdk(whole, http) for _, http in gateways]
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
    deadline = time.monotonic() + LIMIT
    while True:
        videos = {video.id: video for video in clients[0].videos.list(limit=100)}
        ended = [video for video in videos.values() if video.status in ("completed", "failed")]
        if len(ended) == VIDEOS:
            break
        assert time.monotonic() < deadline, [video.status for video in videos.values()]
        if killed < KILLS and len(ended) > 3 * killed:
            victim = draw.choice([each for each in whole.workers if each.poll() is None])
            victim.kill()
            victim.wait()
            whole.start_worker()
            killed += 1
            if killed % 3 == 0:  # a gateway too; the other answers for its videos
                gateways[1][0].kill()
                gateways[1] = whole.start()
                whole.ready(*gateways[1])
                clients[1] = sdk(whole, gateways[1][1])
        time.sleep(0.2)
    assert killed == KILLS
    assert set(videos) == set(wanted), "none is lost and none is made up"
    assert [video.error for video in ended if video.status == "failed"] == []
    for video_id, number in wanted.items():
        content = clients[number % 2].videos.download_content(video_id).read()
        with av.open(io.BytesIO(content)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert (videos[video_id].prompt, frames) == (f"video {number}", 5)
