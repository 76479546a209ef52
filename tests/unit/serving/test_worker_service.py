"""What a worker makes of its service: adapters, full weights, moderation of what comes out."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from ml_runs import FRAMES, HEIGHT, WIDTH
from renders import make_renderer, make_task, rendered, save_odd
from unit.serving.test_moderation import Hook, answering
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import Certificate, ExitClass, ManifestRef
from wan_runtime.contract.service import ModerationSpec
from wan_runtime.errors import InputError
from wan_runtime.models.layout import locate
from wan_runtime.models.weights import SafetensorsFiles
from wan_runtime.presets import preset_named
from wan_runtime.rendering.order import State
from wan_runtime.rendering.times import Times
from wan_runtime.serving.worker import production
from wan_runtime.serving.worker.rank import open_rank
from wan_runtime.training import full_export
from worker_service import Service

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

DIT = "diffusion_pytorch_model.safetensors"


def commit(
    service: Service, prefix: str, folder: Path, names: list[str], preset: str = ""
) -> ManifestRef:
    """As an export does."""
    lineage = Lineage(
        config_hash="c" * 64,
        preset=preset or service.spec.model.preset,
        base_weights="b" * 64,
        dataset="d" * 64,
    )
    certificate = Certificate(
        format=Dialect.DIFFSYNTH, consumer="none", worst_difference=0, files=tuple(names)
    )
    return manifest.commit(
        service.store,
        f"{service.folder.name}/{prefix}",
        {name: folder / name for name in names},
        kind="weights",
        lineage=lineage,
        summary={},
        certificates=(certificate,),
    )


@dataclass(frozen=True)
class Tuned:
    """A transformer of other weights, as the export step writes them: shards and their index."""

    folder: Path
    names: list[str]

    @property
    def shards(self) -> list[str]:
        return sorted(name for name in self.names if name.endswith(".safetensors"))

    def over(self, service: Service) -> Path:
        """Folder of the service's model, with this transformer in place of its own."""
        folder = service.folder / "tuned-model"
        shutil.copytree(service.folder / "model", folder)
        (folder / DIT).unlink()
        for number, name in enumerate(self.shards):
            shutil.copy(self.folder / name, folder / DIT.replace(".", f"-{number}.", 1))
        return folder


@pytest.fixture(scope="module")
def tuned(video_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    draw = torch.Generator().manual_seed(5)
    moved = load_file(video_service.folder / "model" / DIT)
    for name, tensor in moved.items():
        if tensor.ndim > 1:
            noise = torch.randn(tensor.shape, generator=draw)
            moved[name] = tensor.float() + noise * tensor.float().std() / 4
    save_file(moved, folder / "trained.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_export, "SHARD_BYTES", 3_500_000)
        with SafetensorsFiles([folder / "trained.safetensors"]) as trained:
            names = full_export.export(Dialect.DIFFSYNTH, trained, folder, "mine", {})
    return Tuned(folder, names)


def pixels(video: bytes) -> NDArray[np.uint8]:
    with av.open(io.BytesIO(video)) as container:
        return np.stack([each.to_ndarray(format="rgb24") for each in container.decode(video=0)])


def comment(video: bytes) -> dict[str, object]:
    with av.open(io.BytesIO(video)) as container:
        found: dict[str, object] = json.loads(container.metadata["comment"])
        return found


async def test_full_weights_of_a_fine_tune(
    video_service: Service, tuned: Tuned, tmp_path: Path
) -> None:
    assert len(tuned.shards) > 1
    ref = commit(video_service, "export", tuned.folder, tuned.names)
    async with video_service.changed(weights=ref).worker():
        video = await video_service.rendered()
    assert comment(video)["fineTune"] == {
        "manifest": ref.sha256,
        "baseWeights": "b" * 64,
        "dataset": "d" * 64,
        "configuration": "c" * 64,
    }
    # The same as if they were the base model's own.
    model = video_service.spec.model.model_copy(update={"path": str(tuned.over(video_service))})
    async with video_service.changed(model=model).worker():
        base = await video_service.rendered()
    assert "fineTune" not in comment(base)
    np.testing.assert_array_equal(pixels(base), pixels(video))
    # Which shows in the video.
    preset = preset_named(model.preset)
    released, other = [
        make_renderer(locate(preset, folder))
        for folder in (video_service.folder / "model", Path(str(model.path)))
    ]
    assert comment(base)["baseWeights"] == other.model.digest
    assert comment(video)["baseWeights"] != released.model.digest
    task = make_task(tmp_path)
    frames, changed = [np.asarray(rendered(each, task).frames) for each in (released, other)]
    assert np.abs(frames.astype(int) - changed).mean() > 1


FAULTS = {
    "adapter": "style.safetensors",
    "preset": "are of Wan2.2-I2V-Tiny; the base model is Wan2.1-I2V-Tiny",
    "digest": "has 11 bytes",
    "absent": "nowhere/manifest.json does not exist",
}


def faulty(service: Service, tuned: Tuned, fault: str) -> Service:
    """One whose weights are none."""
    preset = "Wan2.2-I2V-Tiny" if fault == "preset" else ""
    names = tuned.names
    if fault == "adapter":
        names = [save_odd(tuned.folder / "style.safetensors").name]
    ref = commit(service, f"wrong-{fault}", tuned.folder, names, preset)
    if fault == "digest":
        service.store.put_bytes(f"{service.folder.name}/wrong-digest/{names[0]}", b"other bytes")
    if fault == "absent":
        ref = ref.model_copy(update={"uri": ref.uri.replace("wrong-absent", "nowhere")})
    return service.changed(weights=ref)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_rank_refuses_weights_that_are_none(
    video_service: Service, tuned: Tuned, fault: str, tmp_path: Path
) -> None:
    spec = faulty(video_service, tuned, fault).spec
    with pytest.raises(InputError) as caught:
        open_rank(spec, rank=0, world=1, meet=tmp_path / "meet", work=tmp_path, times=Times())
    assert FAULTS[fault] in caught.value.message


async def test_weights_that_are_none_end_the_worker(video_service: Service, tuned: Tuned) -> None:
    code, problem = await faulty(video_service, tuned, "digest").ended()
    assert code is ExitClass.INPUT, problem
    assert FAULTS["digest"] in problem


async def test_a_named_kernel_that_is_not_there_ends_the_worker(video_service: Service) -> None:
    code, problem = await video_service.changed(attention="FlashAttention-3").ended()
    assert code is ExitClass.INPUT, problem
    assert problem.startswith("acceleration.attention: FlashAttention-3 needs a Hopper GPU")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with answering() as made:
        yield made


async def test_what_comes_out_is_moderated(
    video_service: Service, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(production, "PAUSES", (0, 0))
    guarded = video_service.changed(moderation=ModerationSpec(url=hook.url))
    async with guarded.worker():
        job = await guarded.completed(await guarded.submit(prompt="a cat"))
        (question,) = hook.asked
        assert (question["stage"], question["id"], question["prompt"]) == (
            *("Output", job.id, "a cat"),
        )
        shown = [Image.open(io.BytesIO(base64.b64decode(each))) for each in question["images"]]
        assert {(each.format, each.size) for each in shown} == {("JPEG", (WIDTH, HEIGHT))}
        first, last = (np.asarray(shown[index]).astype(int) for index in (0, -1))
        video = pixels(guarded.video(job))
        assert len(video) == FRAMES
        assert np.abs(first - video[0]).mean() < 8 < np.abs(first - video[-1]).mean()
        assert np.abs(last - video[-1]).mean() < 8

        hook.answer = (200, b'{"allowed": false, "reason": "a face"}')
        refused = await guarded.end(await guarded.submit())
        assert refused.problem is not None
        assert (refused.state, refused.problem.code) == (State.FAILED, "moderation_refused")
        assert refused.problem.message == "refused by moderation: a face"
        folder = f"{guarded.spec.prefix}/videos/{refused.id}/"
        assert list(guarded.store.list(folder)) == []
        assert folder in await guarded.queue.rubbish(1000)

        hook.answer, before = (500, b""), len(hook.asked)
        unsure = await guarded.end(await guarded.submit())
        assert unsure.problem is not None
        assert unsure.problem.code == "service_unavailable"
        assert len(hook.asked) == before + 3
        hook.answer = (200, b'{"allowed": true}')
        await guarded.completed(await guarded.submit())
