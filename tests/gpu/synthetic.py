"""The real trainer at the shapes of a 14B model, on random weights and synthetic latents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.wan_video_dit import WanModel
from torch import Tensor, nn

from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.data.latents import EncodedClip, Entry, Latents
from wan_runtime.models import tiny
from wan_runtime.models.dit import transformer
from wan_runtime.models.dit.parallel import Mesh, lone_mesh
from wan_runtime.models.load import compute_dtype
from wan_runtime.models.shapes import DIT21, DIT22
from wan_runtime.presets import PRESETS, Preset
from wan_runtime.process.progress import Reporter
from wan_runtime.training import trainer as loop
from wan_runtime.training.batches import Batch, load_batch
from wan_runtime.training.trainer import Trainer
from wan_runtime.training.update import PlainUpdate


class Synthetic:
    """In place of the latent cache: clips of the right shapes, from a seed."""

    def __init__(self, preset: Preset, config: dict[str, Any], dtype: torch.dtype) -> None:
        self._preset, self._config, self._dtype = preset, config, dtype
        self._trainer: Trainer | None = None
        self.frames = 25

    @property
    def frames(self) -> int:
        """Length of all clips."""
        return self._frames

    @frames.setter
    def frames(self, frames: int) -> None:
        self._frames = frames
        if self._trainer is not None:
            self.feed(self._trainer)

    def feed(self, trainer: Trainer) -> None:
        """Have a trainer draw noise of this length for its clips, also after `frames` is set."""
        self._trainer = trainer
        bucket = Bucket(width=self._preset.width, height=self._preset.height, frames=self._frames)
        trainer.draws.clips[:] = [
            clip.model_copy(update={"bucket": bucket}) for clip in trainer.draws.clips
        ]

    def batch(self, trainer: Trainer) -> Batch:
        """The first clips of the trainer's next step."""
        state = trainer.state
        part = next(trainer.draws.step(state.position, state.generator))
        return load_batch(trainer.cache, part.clips, state.device, trainer.transformer.dtype)

    def check_space(self, entries: Iterable[Entry]) -> int:
        return 0

    def load(self, entry: Entry) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(int(entry.sha256[:4], 16))
        shape = (1 + (self.frames - 1) // 4, self._preset.height // 8, self._preset.width // 8)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=draw).to(self._dtype)

        if "video" in entry.key:
            return {"latents": normal(16, *shape)}
        if "text" in entry.key:
            return {"context": normal(40, self._config["text_dim"])}
        image = {"y": normal(20, *shape)}
        return image | ({"clip": normal(257, 1280)} if self._preset.uses_clip else {})


def latents() -> Latents:
    def entry(kind: str, number: int) -> Entry:
        return Entry(key=f"{kind}/{number}", bytes=1, sha256=f"{number:064x}"[::-1])

    clips = tuple(
        EncodedClip(
            path=f"{number}.mp4", sha256=f"{number:064x}", prompt="", source=str(number),
            split="Train", bucket=Bucket(width=16, height=16, frames=5),
            text=entry("text", number), video=entry("video", number),
            image=entry("image", number),
        )
        for number in range(4)
    )  # fmt: skip
    return Latents(clips=clips, empty_text=entry("text", 8), negative_text=entry("text", 9))


def random_dit(config: dict[str, Any], dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A transformer made on the device, frozen, with torch's own initial distributions."""
    with skip_model_initialization():
        dit = WanModel(**config)
    dit = dit.to(dtype).to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in dit.named_parameters():
            if "modulation" in name:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            elif parameter.dim() > 1:
                parameter.uniform_(-1, 1).mul_(parameter[0].numel() ** -0.5)
            else:
                parameter.fill_(float(name.endswith("weight")))  # of a norm
    made: nn.Module = dit.eval().requires_grad_(False)
    return made


LORA = {"lora": {"rank": 32, "alpha": 32}}
"""On q, k, v, o, ffn.0, ffn.2."""


def shapes_of(name: str, *, small: bool) -> tuple[Preset, dict[str, Any]]:
    """A preset and the shapes of its transformers; `small`: of the Tiny one of its release."""
    if small:
        tiny.register()
        name = f"{name.partition('-')[0]}-I2V-Tiny"
    preset = PRESETS[name]
    wide, narrow = (DIT21, tiny.DIT21) if preset.uses_clip else (DIT22, tiny.DIT22)
    return preset, narrow if small else wide


def with_heads(config: dict[str, Any], ranks: int) -> dict[str, Any]:
    """Shapes with an attention head for each rank, as wide as before."""
    heads = max(config["num_heads"], ranks)
    return config | {"dim": config["dim"] // config["num_heads"] * heads, "num_heads": heads}


def plain(trainer: Trainer) -> PlainUpdate:
    """Its update, which no DeepSpeed does."""
    assert isinstance(trainer.state.update, PlainUpdate)
    return trainer.state.update


def build(
    preset: Preset,
    config: dict[str, Any],
    device: torch.device,
    method: dict[str, Any] = LORA,
    *,
    deterministic: bool = False,
    training: Mapping[str, Any] = MappingProxyType({}),
    ranks: Mesh | None = None,
    expert: Expert | None = None,
) -> tuple[Trainer, Synthetic]:
    """The real `Trainer.build`; only where weights and latents come from is replaced.

    Args:
        expert: of a pair; by default the first.
    """
    expert = expert or preset.experts[0]
    ref = ManifestRef(uri="s3://none/manifest.json", sha256="0" * 64)
    job = JobSpec.model_validate(
        {
            "namespace": "gpu", "name": "step", "uid": "0f9e8d7c-0000-4000-8000-000000000000",
            "step": Step.TRAIN, "expert": expert, "model": {"preset": preset.name},
            "store": {"endpoint": "http://127.0.0.1:1", "bucket": "none"},
            "work": {
                "kind": "FineTune",
                "dataset": {
                    "source": "s3://none/data", "fps": 16,
                    "buckets": [{"width": preset.width, "height": preset.height, "frames": 25}],
                },
                "training": {"steps": 1000, "deterministic": deterministic, **training},
                **method,
            },
            "inputs": {"prepare": ref.model_dump(), "encode": ref.model_dump()},
        }
    )  # fmt: skip
    if not training:
        assert finetune_of(job).training.gradient_checkpointing == "Full"
    cache = Synthetic(preset, config, compute_dtype(device))
    made = mock.patch.object(
        transformer,
        "load_dit",
        # On the device also where the product loads to host memory first.
        lambda _files, _expert, dtype, _where: random_dit(config, dtype, device),
    )
    with (
        made,
        mock.patch.multiple(
            loop,
            base_model=lambda *_: SimpleNamespace(preset=preset, dits={expert: ()}, verified={}),
            files_digest=lambda *_: "0" * 64,
            load_latents=lambda *_: latents(),
            LocalCache=lambda *_: cache,
        ),
    ):
        trainer = Trainer.build(
            job, mock.Mock(), Path(), Reporter("train", terminal=False), ranks or lone_mesh()
        )
    cache.feed(trainer)
    return trainer, cache
