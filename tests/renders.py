"""Orders and renderers on the tiny models, small enough for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from moving import FRAMES, HEIGHT, WIDTH, moving_picture
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.service import Size
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.applied import AdapterFile, AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.dialects import write_adapter
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.layout import ModelFiles
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.rendering.render import Progress, Renderer, Shot
from wan_runtime.serving.worker.messages import Render

CPU = torch.device("cpu")


def make_order(**change: Any) -> VideoOrder:
    """Three steps, two of them of Wan2.2's high-noise expert."""
    return VideoOrder(
        **{
            "prompt": "a drifting picture",
            "negative_prompt": "stillness",
            "size": Size(width=WIDTH, height=HEIGHT),
            "frames": FRAMES,
            "fps": 16,
            "steps": 3,
            "guidance": 3.0,
            "guidance_low": 3.0,
            "shift": 5.0,
            "seed": 7,
            "model": "tiny",
            **change,
        }
    )


def make_task(folder: Path, *adapters: AppliedAdapter, **change: Any) -> Render:
    """For a renderer or a rank; the picture is one of the clips'."""
    image = folder / "first.png"
    Image.fromarray(moving_picture(0)[0]).save(image)
    return Render(
        job_id="video_1",
        order=make_order(**change),
        image=str(image),
        adapters=adapters,
        frames=str(folder / "frames.npy"),
    )


def make_renderer(files: ModelFiles, cache_bytes: int = 2**30) -> Renderer:
    """Alone, on the CPU."""
    return Renderer(Model(files, alone(), CPU), AdapterCache(cache_bytes, torch.float32))


def modules(renderer: Renderer) -> dict[Expert, nn.Module]:
    """diffsynth's own, behind its transformers."""
    return {expert: each._module for expert, each in renderer.model.transformers.items()}


def adapter(name: str, files: Mapping[Expert, Path], strength: float = 1.0) -> AppliedAdapter:
    """As a video uses it."""
    fetched = {
        expert: AdapterFile(path=str(path), address=f"s3://bucket/{path.name}")
        for expert, path in files.items()
    }
    return AppliedAdapter(name=name, files=fetched, strength=strength)


def write_lora(path: Path, dit: nn.Module, seed: int, dialect: Dialect = Dialect.DIFFSYNTH) -> Path:
    """An adapter that visibly changes a transformer: rank 2 on all q and the first MLP layers."""
    generator = torch.Generator().manual_seed(seed)
    factors = {
        name: (
            torch.randn(layer.out_features, 2, generator=generator) / 8,
            torch.randn(2, layer.in_features, generator=generator) / 8,
        )
        for name, layer in dit.named_modules()
        if isinstance(layer, nn.Linear) and name.endswith((".q", "ffn.0"))
    }
    write_adapter(dialect, path, factors, {"format": "pt"})
    return path


def save_odd(path: Path) -> Path:
    """A LoRA of another model."""
    save_file({"unet.down.0.lora_A.weight": torch.zeros(2, 4)}, path)
    return path


def rendered(
    renderer: Renderer, task: Render, progress: Progress = lambda stage, step: None
) -> Shot:
    """The task's video, as a rank makes it."""
    return renderer.render(task.order, Path(task.image), task.adapters, progress)
