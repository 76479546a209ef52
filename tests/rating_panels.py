"""Rating pages on a port of loopback, over the videos of a small evaluation."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from numpy.typing import NDArray
from PIL import Image

from moving import FRAMES, HEIGHT, WIDTH, moving_picture
from ports import free_port
from running_gateway import RunningServer, plain
from wan_runtime.artifacts.manifest import digest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.evaluation import RatingSpec
from wan_runtime.contract.sampling import Size
from wan_runtime.data.dataset import Clip, Code
from wan_runtime.evaluation.rating.app import create_app
from wan_runtime.evaluation.rating.judgements import Judgements
from wan_runtime.evaluation.rating.links import Links
from wan_runtime.evaluation.rating.panel import Panel
from wan_runtime.evaluation.rating.plan import planned
from wan_runtime.evaluation.records import Stored, TestClip, Video
from wan_runtime.rendering.media import write_mp4

FPS = 8


def test_clip(number: int) -> TestClip:
    """One of no file."""
    recorded = Clip(
        row=number, path=f"{number}.mp4", uri=f"s3://wan/{number}.mp4", key=f"{number}.mp4",
        prompt="", source=f"{number}", code=Code.ACCEPTED, sha256="0" * 64,
        bucket=Bucket(width=WIDTH, height=HEIGHT, frames=FRAMES),
    )  # fmt: skip
    return TestClip(
        id=f"clip-{number:04d}", prompt=f"a drifting <b>picture</b> {number}", recorded=recorded,
        first_frame=f"first-frames/clip-{number:04d}.png", size=Size(width=WIDTH, height=HEIGHT),
        frames=FRAMES, fps=FPS, seed=number,
    )  # fmt: skip


test_clip.__test__ = False  # type: ignore[attr-defined]


Film = Callable[[int, int], NDArray[np.uint8]]


def drifting(clip: int, candidate: int) -> NDArray[np.uint8]:
    return moving_picture(clip + 10 * candidate)


class Material:
    """Videos and first frames in the store, below a prefix."""

    def __init__(
        self, store: Store, prefix: str, folder: Path, clips: int = 2,
        candidates: Sequence[str] = ("base", "ours"), film: Film = drifting,
    ) -> None:  # fmt: skip
        """`film`: frames of a clip by a candidate, both counted from 0."""
        self.store, self.prefix = store, prefix
        self.clips = [test_clip(number) for number in range(1, clips + 1)]
        self.videos: list[Video] = []
        for clip in self.clips:
            picture = io.BytesIO()
            Image.fromarray(film(clip.seed, 0)[0]).save(picture, "PNG")
            store.put_bytes(f"{prefix}/{clip.first_frame}", picture.getvalue())
            for place, candidate in enumerate(candidates):
                path, key = folder / "video.mp4", f"{prefix}/{candidate}/{clip.id}.mp4"
                write_mp4(film(clip.seed, place), path, FPS)
                data = path.read_bytes()
                store.put_bytes(key, data)
                stored = Stored(uri=store.uri(key), sha256=digest(data), bytes=len(data))
                self.videos.append(Video(clip=clip.id, candidate=candidate, video=stored))

    def panel(self, name: str, **spec: Any) -> Panel:
        """A panel whose ratings are below the prefix and `name`."""
        ratings = RatingSpec.model_validate(
            {"raters": ["ann", "bob"], "hidden_references": False, "repeats": 0, **spec}
        )
        plan, prefix = planned(ratings, self.clips, self.videos, 0), f"{self.prefix}/{name}"
        return Panel(
            spec=ratings, plan=plan, store=self.store,
            deadline_seconds=lambda: ratings.deadline_seconds,
            frames=self.store.uri(f"{self.prefix}/"),
            links=Links.opened_at(self.store, prefix, ratings.raters, datetime.now(UTC)),
            judgements=Judgements(self.store, prefix, ratings.mode, plan),
        )  # fmt: skip


class RunningPage(RunningServer):
    """Uvicorn in a thread of its own. Can be stopped and started anew on its port."""

    def __init__(self, panel: Panel, port: int = 0) -> None:
        self.panel, self.saved = panel, 0
        listener = socket.create_server(("127.0.0.1", port or free_port()))
        self.port = int(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        app = create_app(panel, self._count)
        self._run(uvicorn.Config(app, log_config=None, lifespan="off"), listener)

    def _count(self) -> None:
        self.saved += 1

    def link(self, rater: str) -> str:
        """URL of a rater's page."""
        return f"{self.url}/rate/{self.panel.links.raters[rater]}/"

    def http(self, rater: str = "ann") -> httpx.Client:
        """A client below a rater's link."""
        return plain(self.link(rater))
