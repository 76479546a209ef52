"""The renderer of the video service, against the stock pipeline and against itself."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from forked_ranks import on_ranks
from ml_runs import HEIGHT, WIDTH, moving_picture
from renders import CPU, adapter, make_renderer, make_task, modules, rendered, save_odd, write_lora
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models import load
from wan_runtime.models.adapters.applied import AdapterFile, AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.layout import ModelFiles
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.order import Stage
from wan_runtime.rendering.render import Renderer
from wan_runtime.rendering.sampling import schedule_of
from wan_runtime.serving.worker.problems import problem_of

pytest_plugins = ["ml_fixtures"]


@pytest.fixture(scope="module")
def renderer21(tiny21: ModelFiles) -> Renderer:
    return make_renderer(tiny21)


@pytest.fixture(scope="module")
def renderer22(tiny22: ModelFiles) -> Renderer:
    return make_renderer(tiny22)


def stock(files: ModelFiles, folder: Path, *adapters: Path, **change: Any) -> np.ndarray:
    """The same order through diffsynth's own pipeline: latents as it decodes them, [F, H, W, 3]."""
    order = make_task(folder, **change).order
    pipe = load.load_pipeline(files, torch.float32, CPU)
    for name, path in zip(("dit", "dit2"), adapters, strict=False):
        with load.quietly():
            pipe.load_lora(getattr(pipe, name), str(path))
    video = pipe(
        prompt=order.prompt, negative_prompt=order.negative_prompt,
        input_image=Image.fromarray(moving_picture(0)[0]), seed=order.seed, rand_device="cpu",
        height=HEIGHT, width=WIDTH, num_frames=order.frames, num_inference_steps=order.steps,
        sigma_shift=order.shift, cfg_scale=order.guidance, tiled=False,
        switch_DiT_boundary=files.preset.boundary or 0.875,
        progress_bar_cmd=lambda steps: steps, output_type="quantized",
    )  # fmt: skip
    return np.stack([np.asarray(frame) for frame in video])


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", ["tiny21", "tiny22"])
def test_a_video_is_the_stock_pipelines(
    name: str, guidance: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    files = request.getfixturevalue(name)
    renderer = request.getfixturevalue(name.replace("tiny", "renderer"))
    both = {"guidance": guidance, "guidance_low": guidance, "steps": 4}
    frames = rendered(renderer, make_task(tmp_path, **both)).frames
    assert frames is not None
    expected = stock(files, tmp_path, **both)
    assert frames.std() > 5, "it shows something"
    assert np.abs(frames.astype(int) - expected).max() <= 1  # of 255: stock truncates, we round


def test_the_experts_switch_at_the_boundary_each_with_its_guidance(tiny22: ModelFiles) -> None:
    order = make_task(Path("/tmp"), steps=4, guidance=2.0, guidance_low=5.0).order
    plan = schedule_of(tiny22.preset, order)
    assert [(expert, guidance) for _, expert, guidance in plan] == [
        (Expert.HIGH_NOISE, 2.0), (Expert.HIGH_NOISE, 2.0),
        (Expert.LOW_NOISE, 5.0), (Expert.LOW_NOISE, 5.0),
    ]  # fmt: skip
    assert plan[1][0] > 0.9 > plan[2][0]


@pytest.mark.parametrize("field", ["guidance", "guidance_low", "seed", "negative_prompt"])
def test_each_setting_counts(field: str, renderer22: Renderer, tmp_path: Path) -> None:
    other = "motion" if field == "negative_prompt" else 5
    base = rendered(renderer22, make_task(tmp_path)).latents
    assert not torch.equal(
        base, rendered(renderer22, make_task(tmp_path, **{field: other})).latents
    )
    assert torch.equal(base, rendered(renderer22, make_task(tmp_path)).latents)


def test_an_adapter_leaves_the_base_to_the_bit(renderer22: Renderer, tmp_path: Path) -> None:
    """Off, A, off, B, both, off: as if there had been none. And A is what stock makes of it."""
    dits = modules(renderer22)
    paths = {
        (name, expert): write_lora(tmp_path / f"{name}-{expert}", dits[expert], seed)
        for name, seed in (("a", 1), ("b", 2))
        for expert in dits
    }

    def use(name: str, strength: float = 1.0) -> AppliedAdapter:
        return adapter(name, {expert: paths[name, expert] for expert in dits}, strength)

    def latents(*adapters: AppliedAdapter) -> torch.Tensor:
        return rendered(renderer22, make_task(tmp_path, *adapters)).latents

    base, a = latents(), latents(use("a"))
    assert torch.equal(latents(), base)
    b = latents(use("b"))
    assert torch.equal(latents(), base)
    both = latents(use("a"), use("b"))
    assert torch.equal(latents(), base)
    assert torch.equal(latents(use("a")), a)
    weak = latents(use("a", 0.1))
    low = latents(adapter("a", {Expert.LOW_NOISE: paths["a", Expert.LOW_NOISE]}))
    different = [base, a, b, both, weak, low]
    for index, one in enumerate(different):
        assert all(not torch.allclose(one, other, atol=1e-3) for other in different[:index])


def test_an_adapter_does_what_it_does_in_the_stock_pipeline(
    renderer22: Renderer, tiny22: ModelFiles, tmp_path: Path
) -> None:
    dits = modules(renderer22)
    paths = [write_lora(tmp_path / f"{expert}.safetensors", dits[expert], 3) for expert in dits]
    use = adapter("a", dict(zip(dits, paths, strict=True)))
    frames = rendered(renderer22, make_task(tmp_path, use)).frames
    assert frames is not None
    assert np.abs(frames.astype(int) - stock(tiny22, tmp_path, *paths)).max() <= 1


def test_an_adapter_of_another_model_is_refused(
    renderer21: Renderer, renderer22: Renderer, tmp_path: Path
) -> None:
    wide = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([torch.nn.ModuleDict()])})
    wide["blocks"][0]["self_attn"] = torch.nn.ModuleDict({"q": torch.nn.Linear(512, 512)})
    odd = {
        "unet": (save_odd(tmp_path / "unet"), "1 of its 1 keys are not understood"),
        "wide": (
            write_lora(tmp_path / "wide", wide, 1, Dialect.COMFYUI),
            "adapter wide: s3://bucket/wide has the keys of ComfyUI, but 0 of its 1 layers fit "
            "this model: blocks.0.self_attn.q.weight is 512x512 there and 128x128 here",
        ),
    }
    base = rendered(renderer21, make_task(tmp_path)).latents
    for name, (path, message) in odd.items():
        use = adapter(name, {Expert.ONLY: path})
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            rendered(renderer21, make_task(tmp_path, use))
        assert problem_of(caught.value).code == "adapter_mismatch"
    assert torch.equal(rendered(renderer21, make_task(tmp_path)).latents, base)


def test_adapters_used_last_are_kept(
    renderer21: Renderer, tmp_path: Path, tiny21: ModelFiles
) -> None:
    dit = modules(renderer21)[Expert.ONLY]
    paths = [write_lora(tmp_path / f"{number}", dit, number) for number in range(3)]
    files = [AdapterFile(path=str(path), address="s3://bucket/a") for path in paths]
    one = renderer21.adapters.get(files[0]).bytes
    small = make_renderer(tiny21, cache_bytes=2 * one).adapters
    for number in (0, 1, 0, 2):
        small.get(files[number])
    assert [path in small for path in paths] == [True, False, True]


def test_a_prompt_is_encoded_once(
    renderer21: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    text = renderer21.model.text
    assert text is not None
    encode = text.encode
    monkeypatch.setattr(text, "encode", lambda prompt: asked.append(prompt) or encode(prompt))
    for seed in (1, 2):
        rendered(renderer21, make_task(tmp_path, prompt="only here", seed=seed))
    assert asked.count("only here") == 1


def test_stages_in_order_and_a_way_out_at_each_step(renderer21: Renderer, tmp_path: Path) -> None:
    told: list[tuple[Stage, int]] = []
    rendered(renderer21, make_task(tmp_path), lambda *at: told.append(at))
    assert told == [
        (Stage.LOADING, 0), (Stage.ENCODING_INPUT, 0), (Stage.DENOISING, 0), (Stage.DENOISING, 1),
        (Stage.DENOISING, 2), (Stage.DECODING, 3),
    ]  # fmt: skip

    def leave(stage: Stage, step: int) -> None:
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rendered(renderer21, make_task(tmp_path), leave)


def test_a_step_is_told_when_the_one_before_has_run(
    renderer21: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels are launched ahead of the GPU, and a step's time would be that of its launches."""
    events: list[str] = []
    stream = SimpleNamespace(synchronize=lambda: events.append("has run"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: stream)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    rendered(renderer21, make_task(tmp_path), lambda stage, step: events.append(stage))
    steps = ["has run", Stage.DENOISING] * 3
    assert events == [Stage.LOADING, Stage.ENCODING_INPUT, *steps, Stage.DECODING]


def test_a_first_frame_of_another_size_is_refused(renderer21: Renderer, tmp_path: Path) -> None:
    task = make_task(tmp_path)
    Image.new("RGB", (WIDTH, HEIGHT + 16)).save(task.image)
    with pytest.raises(InputError, match="the first frame is 64x64; the video is 64x48"):
        rendered(renderer21, task)
    Path(task.image).write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="the first frame cannot be decoded"):
        rendered(renderer21, task)


@pytest.mark.parametrize("wrong", [(0,), (1,), (0, 1)])
def test_a_first_frame_is_refused_by_all_ranks_alike(
    wrong: tuple[int, ...], tiny21: ModelFiles, tmp_path: Path
) -> None:
    task = make_task(tmp_path)
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"GIF89a")

    def render(ranks: Ranks) -> object:
        renderer = Renderer(Model(tiny21, ranks, CPU), AdapterCache(0, torch.float32))
        return renderer.render(task.order, torn if ranks.rank in wrong else Path(task.image))

    first, second = on_ranks(2, tmp_path, render)
    assert first == second
    assert first.startswith("ClipInvalid: the first frame cannot be decoded"), first
