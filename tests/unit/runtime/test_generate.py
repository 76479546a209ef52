"""Candidates that are rendered here, by the service's renderer."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import av
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from evaluations import Evaluation
from moving import FRAMES, HEIGHT, WIDTH, moving_picture
from renders import CPU, write_lora
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import Certificate
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import (
    DEFAULT_STEP_CACHE,
    AttentionKernel,
    Profile,
    StepCachePolicy,
)
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.data.decode import timeline
from wan_runtime.data.facts import Facts
from wan_runtime.errors import InputError, NumericalError
from wan_runtime.evaluation import rendered as rendered_here
from wan_runtime.evaluation.records import Video
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import load_dit
from wan_runtime.rendering.model import Model, digest_of
from wan_runtime.rendering.order import Stage, VideoOrder
from wan_runtime.rendering.render import Renderer, Shot

pytest_plugins = ["ml_fixtures", "evaluation_fixtures"]

PRESET = "Wan2.1-I2V-Tiny"


class Rendered:
    """Orders that were rendered, while the tests decide about each."""

    def __init__(self) -> None:
        self.orders: list[VideoOrder] = []
        self.stop_after = 100
        self.fails: set[str] = set()
        self.policies: set[StepCachePolicy | None] = set()
        self.kernels: list[tuple[Profile, AttentionKernel | None]] = []
        """Profile and attention kernel of each model that was loaded."""
        self.made_up = False
        """Whether no model is loaded, and videos are of a moving picture."""

    def prompts(self) -> list[str]:
        found = [each.prompt[-1] for each in self.orders]
        self.orders.clear()
        return found


@pytest.fixture(scope="module")
def loaded() -> dict[str, Model]:
    """Models by profile and weights: each is loaded once for all tests."""
    return {}


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch, loaded: dict[str, Model]) -> Rendered:
    made, render = Rendered(), Renderer.render

    def load(
        files: ModelFiles,
        ranks: Ranks,
        device: torch.device,
        profile: Profile,
        policy: StepCachePolicy | None,
        attention: AttentionKernel | None,
    ) -> Model:
        key = f"{profile} {policy} {attention} {digest_of(files)}"
        made.policies.add(policy)
        made.kernels.append((profile, attention))
        if made.made_up:
            return cast(Model, SimpleNamespace(profile=profile, ranks=ranks))
        if key not in loaded:
            loaded[key] = Model(files, ranks, device, profile, policy, attention=attention)
        return loaded[key]

    monkeypatch.setattr(rendered_here, "Model", load)

    def noting(self: Renderer, order: VideoOrder, *rest: object) -> Shot:
        if len(made.orders) == made.stop_after:
            raise KeyboardInterrupt
        made.orders.append(order)
        if order.prompt in made.fails:
            raise NumericalError(Reason.NON_FINITE_LOSS, "sampling gave NaN or infinite pixels")
        if made.made_up:
            frames = moving_picture(order.seed % 100, order.frames)
            return Shot(frames, torch.zeros(1), dict.fromkeys(Stage, 1.0))
        return render(self, order, *rest)

    monkeypatch.setattr(Renderer, "render", noting)
    return made


@pytest.fixture
def made_up(rendered: Rendered) -> Rendered:
    """For tests of what is rendered when, and of its name: no pixel matters."""
    rendered.made_up = True
    return rendered


@pytest.fixture
def collected(evaluation: Evaluation, tiny21: ModelFiles) -> Evaluation:
    evaluation.upload_few(3)
    evaluation.work |= {"sampling": {"steps": 2, "guidance": 1}, "seed": 7}
    evaluation.spec = evaluation.spec.model_copy(update={"prefix": evaluation.name})
    evaluation.go(Step.COLLECT)
    evaluation.fields["model"] = {"preset": PRESET, "path": str(tiny21.folder)}
    return evaluation


SHARD = {"index": 0, "count": 3}
"""The first clip alone."""


def shown(store: Store, video: Video, folder: Path) -> np.ndarray:
    """The frames of a video: [F, H, W, 3]."""
    assert video.video is not None
    path = folder / "shown.mp4"
    store.download(store.parse(video.video.uri)[1], path, sha256=video.video.sha256)
    frames = timeline(path, 16, Facts())
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(float)


def test_a_killed_pod_and_another_evaluation_render_nothing_twice(
    collected: Evaluation, rendered: Rendered, store: Store, tmp_path: Path
) -> None:
    collected.add("base", preset=PRESET)
    collected.add("same", preset=PRESET, training={"gpuSeconds": 5})
    rendered.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        collected.generate("base")
    assert rendered.prompts() == ["0"]
    rendered.stop_after = 100
    videos = collected.generate("base")
    assert rendered.prompts() == ["1", "2"]
    assert collected.generate("same")[0].video == videos[0].video
    assert rendered.prompts() == []

    assert [each.seed for each in videos] == [7, 8, 9]
    assert all(each.gpu == "CPU" and (each.gpu_seconds or 0) > 0 for each in videos)
    assert {each.profile for each in videos} == {"Lossless"}
    first = videos[0].video
    assert first is not None
    assert first.uri.startswith(f"s3://wan/{collected.name}/cache/renders/")
    path = tmp_path / "first.mp4"
    store.download(store.parse(first.uri)[1], path, sha256=first.sha256)
    with av.open(str(path)) as container:
        assert "baseWeights" in container.metadata["comment"]
    frames = list(timeline(path, 16, Facts()))
    assert len(frames) == FRAMES
    assert (frames[0].width, frames[0].height) == (WIDTH, HEIGHT)
    shown = frames[0].to_ndarray(format="rgb24").astype(float)
    assert np.abs(shown - moving_picture(0)[0]).mean() < 40, "it starts from the first frame"


def test_no_model_is_fetched_where_all_videos_are_there(
    collected: Evaluation, made_up: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[bool] = []
    fetch = rendered_here.tuned_files

    def noting(*arguments: object, **more: object) -> ModelFiles:
        brought.append(bool(arguments[3]))
        return fetch(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(rendered_here, "tuned_files", noting)
    collected.add("base", preset=PRESET)
    collected.work["sampling"]["guidance"] = 1.25
    collected.generate("base", shard=SHARD)
    assert brought == [False, True]
    collected.generate("base", shard=SHARD)
    assert brought == [False, True, False]


def test_a_clip_that_fails_stops_no_other(collected: Evaluation, made_up: Rendered) -> None:
    collected.add("base", preset=PRESET)
    made_up.fails = {"a drifting picture 1"}
    first, bad, last = collected.generate("base")
    assert bad.video is None
    assert bad.failure == "sampling gave NaN or infinite pixels"
    assert first.video is not None
    assert last.video is not None


def test_a_damaged_video_of_the_cache_is_rendered_again(
    collected: Evaluation, made_up: Rendered, store: Store, tmp_path: Path
) -> None:
    collected.add("base", preset=PRESET)
    collected.work["sampling"]["negative_prompt"] = ""
    (video,) = collected.generate("base", shard=SHARD)
    assert video.video is not None
    store.put_bytes(store.parse(video.video.uri)[1], b"half a video")
    made_up.prompts()
    (again,) = collected.generate("base", shard=SHARD)
    assert made_up.prompts() == ["0"]
    assert again.video is not None
    assert again.video.uri == video.video.uri
    store.download(store.parse(again.video.uri)[1], tmp_path / "whole", sha256=again.video.sha256)


def test_weights_settings_and_other_seeds_make_other_videos(
    collected: Evaluation, rendered: Rendered, store: Store, tiny21: ModelFiles, tmp_path: Path
) -> None:
    dit = load_dit(tiny21, Expert.ONLY, torch.float32, CPU)
    key = f"{collected.name}/lora.safetensors"
    store.put_file(key, write_lora(tmp_path / "lora", dit, 1))
    lora = {"preset": PRESET, "adapter": {"files": {"Only": store.uri(key)}}}
    collected.add("base", preset=PRESET)
    collected.add("lora", **lora)
    collected.add("weak", **{**lora, "adapter": {**lora["adapter"], "strength": 0.5}})
    collected.add("exact", preset=PRESET, profile="Exact")
    collected.work["noise_floor"] = "base"
    names = ("base", "lora", "weak", "exact")
    found = [video for name in names for video in collected.generate(name, shard=SHARD)]
    assert len({each.video.uri for each in found if each.video}) == 5
    other_seed = ("OtherSeed", 7 + 2**31)
    assert [(each.render, each.seed) for each in found[:2]] == [("First", 7), other_seed]
    first, other = (shown(store, each, tmp_path) for each in found[:2])
    assert np.abs(first - other).mean() > 1, "the other seed makes another video"
    assert len({each.weights for each in found}) == 3, "exact arithmetic has the same weights"


def test_the_noise_floor_is_rendered_with_other_kernels_too(
    collected: Evaluation, made_up: Rendered
) -> None:
    collected.add("base", preset=PRESET)
    collected.add("exact", preset=PRESET, profile="Exact")
    floor: dict[str, object] = {"noise_floor_renders": ["OtherKernels"]}
    collected.work |= floor | {"noise_floor": "base"}
    first, again = collected.generate("base", shard=SHARD)
    assert (first.render, first.profile) == ("First", "Lossless")
    assert (again.render, again.profile, again.seed) == ("OtherKernels", "Exact", first.seed)
    made_up.prompts()
    collected.work["noise_floor"] = "exact"
    both = collected.generate("exact", shard=SHARD)
    assert [each.video for each in both] == [again.video, first.video]
    assert made_up.prompts() == [], "each is the other's repeat, and in the store"
    collected.add("fast", preset=PRESET, profile="Fast")
    collected.work["noise_floor"] = "fast"
    with pytest.raises(InputError, match="Exact or Lossless, not Fast"):
        collected.generate("fast", shard=SHARD)


def test_other_encoders_make_other_videos(
    collected: Evaluation, made_up: Rendered, tiny21: ModelFiles, tmp_path: Path
) -> None:
    """The transformers are the same: what differs is the VAE, by one byte of a note in it."""
    collected.add("base", preset=PRESET)
    collected.work["sampling"]["guidance"] = 1.5
    (before,) = collected.generate("base", shard=SHARD)
    copy = tmp_path / "model"
    shutil.copytree(tiny21.folder, copy)
    vae = copy / tiny21.vae.relative_to(tiny21.folder)
    save_file(load_file(vae), vae, metadata={"note": "another"})
    collected.fields["model"] = {"preset": PRESET, "path": str(copy)}
    (after,) = collected.generate("base", shard=SHARD)
    assert before.video is not None
    assert after.video is not None
    assert before.video.uri != after.video.uri
    assert before.weights == after.weights


def test_steps_left_out_by_another_estimate_make_another_video(
    collected: Evaluation, made_up: Rendered
) -> None:
    collected.add("default", preset=PRESET, profile="Fast")
    collected.add("tea", preset=PRESET, profile="Fast", stepCache="TeaCache")
    keys = {collected.generate(name, shard=SHARD)[0].video.uri for name in ("default", "tea")}
    assert len(keys) == 2
    assert made_up.policies == {DEFAULT_STEP_CACHE, "TeaCache"}


def test_a_named_attention_kernel_makes_another_video(
    collected: Evaluation, made_up: Rendered
) -> None:
    collected.add("auto", preset=PRESET)
    collected.add("named", preset=PRESET, attention="SDPA")
    keys = {collected.generate(name, shard=SHARD)[0].video.uri for name in ("auto", "named")}
    assert len(keys) == 2
    assert made_up.kernels == [("Lossless", None), ("Lossless", "SDPA")]
    collected.work |= {"noise_floor": "named", "noise_floor_renders": ["OtherKernels"]}
    _, other = collected.generate("named", shard=SHARD)
    assert other.profile == "Exact"
    assert made_up.kernels[2:] == [("Exact", None)], "Exact has a kernel of its own"
    for profile, kernel in (("Exact", "SDPA"), ("Lossless", "SageAttention")):
        collected.candidates.clear()
        collected.add("wrong", preset=PRESET, profile=profile, attention=kernel)
        with pytest.raises(ValidationError, match=f"attention {kernel} is"):
            collected.generate("wrong", shard=SHARD)


def test_a_kernel_that_cannot_run_here_ends_the_candidate(
    collected: Evaluation, rendered: Rendered
) -> None:
    collected.add("named", preset=PRESET, attention="FlashAttention-3")
    with pytest.raises(InputError, match=r"FlashAttention-3 needs .* no GPU") as refused:
        collected.generate("named", shard=SHARD)
    assert refused.value.reason is Reason.JOB_INVALID


@pytest.mark.parametrize(("profile", "again"), [("Lossless", 0), ("Balanced", 1)])
def test_a_video_in_8_bits_belongs_to_the_type_of_its_gpu(
    collected: Evaluation,
    made_up: Rendered,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    again: int,
) -> None:
    """Balanced is Lossless where the GPU has no 8 bits: such a video says nothing about it."""
    collected.add("ours", preset=PRESET, profile=profile)
    collected.generate("ours", shard=SHARD)
    made_up.prompts()
    monkeypatch.setattr(rendered_here.Candidate, "gpu", "NVIDIA H200")
    collected.generate("ours", shard=SHARD)
    assert len(made_up.prompts()) == again


def exported(store: Store, name: str, file: Path, **summary: int) -> dict[str, str]:
    """What a fine-tune of this name left."""
    path = f"{name}.safetensors"
    certificate = Certificate(
        format=Dialect.DIFFSYNTH, consumer="none", worst_difference=0, files=(path,)
    )
    ref = manifest.commit(
        store, name, {path: file}, kind="weights", summary=summary, certificates=(certificate,),
        lineage=Lineage(config_hash="0" * 64, preset=PRESET),
    )  # fmt: skip
    return ref.model_dump()


def test_what_fine_tunes_exported_is_rendered(
    collected: Evaluation, rendered: Rendered, store: Store, tiny21: ModelFiles, tmp_path: Path
) -> None:
    dit = load_dit(tiny21, Expert.ONLY, torch.float32, CPU)
    lora = exported(store, f"{collected.name}-lora", write_lora(tmp_path / "lora", dit, 1), rank=2)
    (shard,) = tiny21.dits[Expert.ONLY]
    tensors = {name: tensor * 1.05 for name, tensor in load_file(shard).items()}
    save_file(tensors, tmp_path / "full")
    full = exported(store, f"{collected.name}-full", tmp_path / "full")
    collected.add("base", preset=PRESET)
    collected.add("lora", preset=PRESET, weights=lora)
    collected.add("full", preset=PRESET, weights=full)
    found = [collected.generate(name, shard=SHARD)[0] for name in ("base", "lora", "full")]
    assert len({each.weights for each in found}) == 3
    base, *tuned = (shown(store, each, tmp_path) for each in found)
    assert all(np.abs(each - base).mean() > 0.1 for each in tuned)
    other = {"preset": "Wan2.2-I2V-Tiny"}
    collected.add("other", **other, weights=full)
    with pytest.raises(InputError, match=r"are of Wan2.1-I2V-Tiny; the base model is Wan2.2-I2V"):
        collected.generate("other", model=other)


def test_weights_that_cannot_be_used_are_the_steps_error(
    collected: Evaluation, rendered: Rendered, store: Store
) -> None:
    store.put_bytes(f"{collected.name}/odd", b"no adapter")
    odd = {"files": {"Only": f"s3://wan/{collected.name}/odd"}}
    collected.add("odd", preset=PRESET, adapter=odd)
    collected.add("gone", preset=PRESET, adapter={"files": {"Only": "s3://wan/gone"}})
    with pytest.raises(InputError, match=r"adapter odd: s3://wan/.*odd") as refused:
        collected.generate("odd")
    assert refused.value.reason is Reason.MODEL_INVALID
    with pytest.raises(InputError, match="s3://wan/gone does not exist") as missing:
        collected.generate("gone")
    assert missing.value.reason is Reason.MODEL_NOT_FOUND
    assert manifest.find(store, collected.job(Step.GENERATE, candidate="odd").output_prefix) is None
