"""What ranks find out about themselves before they take videos."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import AdapterSpec, AdapterUse, ServiceSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError, NumericalError, OutOfMemoryError
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.models.dit.parallel import Group, Ranks, alone, join
from wan_runtime.models.layout import ModelFiles
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.order import Stage, VideoOrder
from wan_runtime.rendering.render import Progress, Shot
from wan_runtime.rendering.times import Times
from wan_runtime.serving.worker import rank, warm_up
from wan_runtime.serving.worker.adapter_checks import Checks, Sample

pytest_plugins = ["ml_fixtures"]

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
        self.made: list[tuple[str, float]] = []
        """Name of each adapter at work, and guidance."""

    def render(
        self,
        order: VideoOrder,
        first_frame: Path,
        adapters: Sequence[AppliedAdapter] = (),
        *,
        progress: Progress,
    ) -> Shot:
        self.frames.append(order.frames)
        self.made += [(each.name, order.guidance) for each in adapters]
        if any(each.name == "broken" for each in adapters):
            raise NumericalError(Reason.NON_FINITE_LOSS, "a pixel is not finite")
        if any(each.name == "huge" for each in adapters):
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any(each.name == "huge for one" for each in adapters):
            raise OutOfMemoryError(Reason.GPU_OUT_OF_MEMORY, "CUDA out of memory")
        for stage in (Stage.DENOISING, Stage.DENOISING, Stage.DECODING):
            progress(stage, 0)
        seconds = {Stage.DENOISING: 4.0 / len(self.frames)}
        return Shot(None, torch.full((2,), self._latents.pop(0)), seconds)


def run(renderer: Faulty, work: Path, *samples: Sample) -> warm_up.Warm:
    stand_in: Any = renderer
    return warm_up.run(SERVICE, stand_in, work, None, samples)


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


def sample(name: str, guided: bool = True) -> Sample:
    return Sample(AppliedAdapter(name=name, files={}, strength=1), guided)


def test_samples_of_adapters_are_at_work_before_requests_are(tmp_path: Path) -> None:
    renderer = Faulty(join(0, 1, tmp_path / "meet"), 1, 1, 5, 6, 2, 3)
    run(renderer, tmp_path, sample("film"), sample("broken"), sample("turbo", guided=False))
    assert renderer.frames == [5, 5, 5, 5, 5, 17, 17]
    guidance = PRESETS[SERVICE.model.preset].guidance
    assert renderer.made == [("film", guidance), ("broken", guidance), ("turbo", 1.0)]


def test_an_adapter_without_room_on_the_gpu_stops_no_worker(tmp_path: Path) -> None:
    renderer = Faulty(join(0, 1, tmp_path / "meet"), 1, 1, 5, 2, 3)
    run(renderer, tmp_path, sample("huge"), sample("film"))
    assert renderer.frames == [5, 5, 5, 5, 17, 17]


@pytest.mark.parametrize(("name", "survives"), [("huge for one", True), ("huge", False)])
def test_of_several_ranks_all_must_have_heard_of_it(
    tmp_path: Path, name: str, survives: bool
) -> None:
    """A rank that is out of memory by itself leaves the others waiting for it."""
    stand_in: Any = SimpleNamespace(
        world=2, rank=0, broadcast=lambda value: value, together=lambda action: action()
    )
    renderer = Faulty(stand_in, 1, 1, 2, 3)
    with nullcontext() if survives else pytest.raises(torch.OutOfMemoryError):
        run(renderer, tmp_path, sample(name))


@pytest.mark.parametrize(
    ("compiled", "wanted"),
    [(True, [("film", True), ("wide", True), ("turbo", False)]), (False, [])],
)
def test_samples_are_one_of_each_way_in_which_blocks_are_compiled(
    compiled: bool, wanted: list[tuple[str, bool]]
) -> None:
    ranks = {"film": 4, "noir": 32, "wide": 33, "turbo": 16, "bias": 0}

    class Files:
        def apply(self, spec: AdapterSpec, use: AdapterUse) -> AppliedAdapter:
            return AppliedAdapter(name=use.name, files={}, strength=1)

    class Cache:
        def __init__(self) -> None:
            self.widths = iter(ranks.values())

        def changes(self, files: Any, shapes: Any) -> tuple[dict[Expert, Changes], tuple[str, ...]]:
            rank = next(self.widths)
            factors = {"blocks.0.ffn.0": (torch.zeros(8, rank), torch.zeros(rank, 4))}
            return {Expert.ONLY: Changes("s3://a", factors if rank else {}, {})}, ()

    files, cache = cast(AdapterFiles, Files()), cast(AdapterCache, Cache())
    transformer: Any = SimpleNamespace(shapes={}, compiled=compiled)
    checks = Checks(files, cache, {Expert.ONLY: transformer})
    for name in ranks:
        turbo = {"distilled": {"steps": 4, "shift": 5}} if name == "turbo" else {}
        spec = {"name": name, "files": {"Only": f"s3://wan/{name}.safetensors"}, **turbo}
        assert checks.first(AdapterSpec.model_validate(spec)).ready
    assert [(each.adapter.name, each.guided) for each in checks.samples] == wanted


def test_each_rank_takes_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"--ranks 4: .* this pod has 2"):
        rank.open_rank(SERVICE, 0, 4, tmp_path / "meet", tmp_path, Times())


def test_ranks_share_the_attention_heads(tiny21: ModelFiles) -> None:
    eight = replace(alone(), world=8, everyone=Group(tuple(range(8)), 0))
    with pytest.raises(InputError, match="8 GPUs cannot render a video together: 4 attention head"):
        Model(tiny21, eight, torch.device("cpu"))


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
