"""What ranks find out about themselves before they take videos."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import NumericalError
from wan_runtime.models.dit.parallel import Ranks, join
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.order import Stage, VideoOrder
from wan_runtime.rendering.render import Progress, Shot
from wan_runtime.serving.worker import warm_up

SERVICE = ServiceSpec.model_validate(
    {
        "namespace": "team",
        "name": "wan",
        "uid": "0123456789ab",
        "model": {"preset": "Wan2.2-I2V-Tiny"},
        "store": {"endpoint": "http://127.0.0.1:1", "bucket": "none"},
        "sizes": [{"width": 128, "height": 96}, {"width": 96, "height": 128}],
    }
)


class Faulty:
    """A renderer whose numbers are given, in place of a GPU that computes them wrong."""

    def __init__(self, ranks: Ranks, *latents: float) -> None:
        self.model = SimpleNamespace(preset=PRESETS[SERVICE.model.preset])
        self.ranks, self._latents = ranks, list(latents)
        self.frames: list[int] = []

    def render(self, order: VideoOrder, first_frame: Path, *, progress: Progress) -> Shot:
        self.frames.append(order.frames)
        for stage in (Stage.DENOISING, Stage.DENOISING, Stage.DECODING):
            progress(stage, 0)
        seconds = {Stage.DENOISING: 4.0 / len(self.frames)}
        return Shot(None, torch.full((2,), self._latents.pop(0)), seconds)


def run(renderer: Faulty, work: Path) -> warm_up.Warm:
    stand_in: Any = renderer
    return warm_up.run(SERVICE, stand_in, work)


def test_the_pace_is_that_of_the_faster_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer: Any = Faulty(join(0, 1, tmp_path / "meet"), 1)
    order = warm_up.warm_order(renderer.model.preset, SERVICE.defaults, SERVICE.sizes[0])
    clock = iter([0.0, 3.0, 13.0])  # as another expert's first step may choose kernels yet
    monkeypatch.setattr(warm_up, "time", SimpleNamespace(monotonic=clock.__next__))
    assert warm_up._render(renderer, order, tmp_path)[1].step_seconds == 3.0


def test_a_short_video_twice_then_each_size_once(tmp_path: Path) -> None:
    renderer = Faulty(join(0, 1, tmp_path / "meet"), 1, 1, 2, 3)
    warm = run(renderer, tmp_path)
    assert renderer.frames == [5, 5, 17, 17]
    assert list(warm.paces) == ["128x96", "96x128"]
    assert warm.compile_seconds == 2.0


def test_another_video_the_second_time_is_a_fault(tmp_path: Path) -> None:
    renderer = Faulty(join(0, 1, tmp_path / "meet"), 1, 2)
    with pytest.raises(NumericalError) as caught:
        run(renderer, tmp_path)
    assert "rendered twice gives two videos" in caught.value.message


def test_a_rank_that_differs_at_one_size_is_a_fault(tmp_path: Path) -> None:
    ranks = join(0, 1, tmp_path / "meet")
    renderer = Faulty(ranks, 1, 1, 2, 3)
    heard = iter(range(3))
    others = SimpleNamespace(
        rank=ranks.rank,
        together=ranks.together,
        broadcast=lambda mine: mine if next(heard) < 2 else "0" * 64,
    )
    renderer.ranks = others  # type: ignore[assignment]
    with pytest.raises(NumericalError) as caught:
        run(renderer, tmp_path)
    assert "another video than rank 0" in caught.value.message
    assert len(renderer.frames) == 4
