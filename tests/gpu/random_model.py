"""Wan2.2-I2V-A14B in its released shapes and layout, with random weights: 41 GB.

Its experts share all files but the head's: a link takes no room, and costs a worker what two sets
would, but for reading them. (Wan2.1's CLIP is recognised by a text tower too, which nothing here
builds.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from wan_runtime.models import layout, tiny
from wan_runtime.models.adapters.changes import Factors
from wan_runtime.models.digest import file_digest
from wan_runtime.models.shapes import Shapes, expected
from wan_runtime.presets import Preset
from wan_runtime.threads import in_order

SHARD_BYTES = 5 * 10**9
STEM = "diffusion_pytorch_model"

QUIET = 0.1
"""Factor of the weights of the VAE's last layer for a quiet picture."""


def write(preset: Preset, folder: Path, device: torch.device, *, quiet: bool = False) -> None:
    """Into a new folder. Drawn on `device`. Of a Tiny preset, its own weights. `quiet`: the picture
    is a calm one, which x264 writes about as fast as a real one."""
    if preset.tiny:
        tiny.write(preset, folder)
        return
    _write_tokenizer(folder / layout.TOKENIZER, expected(preset, "text_encoder"))
    torch.manual_seed(0)
    whole = expected(preset, "dit")
    heads = {name: shape for name, shape in whole.items() if name.startswith("head.")}
    rest = {name: shape for name, shape in whole.items() if name not in heads}
    shards = [*_shards(rest, torch.bfloat16), heads]
    first, *others = (folder / layout.EXPERT_FOLDERS[expert] for expert in preset.experts)
    first.mkdir(parents=True)
    written = _write(shards, first / STEM, torch.bfloat16, device)
    for other in others:  # the head tells experts apart
        other.mkdir()
        _write([heads], other / STEM, torch.bfloat16, device)
        (other / f"{STEM}.safetensors").rename(other / written[-1].name)
        for path in written[:-1]:
            for each in (path, path.with_name(f"{path.name}.sha256.json")):
                (other / each.name).symlink_to(Path("..", first.name, each.name))
    for part, name, dtype in (
        ("text_encoder", layout.TEXT_ENCODER[0], torch.bfloat16),
        ("vae", layout.VAE[0], torch.float32),
    ):
        factors = {"decoder.head.2.weight": QUIET} if quiet else {}
        stem = (folder / name).with_suffix("")
        _write([expected(preset, part)], stem, dtype, device, factors)


def adapter(preset: Preset, rank: int, seed: int) -> Factors:
    """(B [O, R], A [R, I]) for the layers that a fine-tune adapts by default, small enough for the
    video to stay finite."""
    draw = torch.Generator().manual_seed(seed)
    factors = {}
    for name, shape in expected(preset, "dit").items():
        layer, _, kind = name.rpartition(".")
        ending = layer.removeprefix("blocks.").partition(".")[2]
        if kind == "weight" and ending.endswith((".q", ".k", ".v", ".o", "ffn.0", "ffn.2")):
            rows, columns = shape
            factors[layer] = (
                torch.randn(rows, rank, generator=draw) * 0.01,
                torch.randn(rank, columns, generator=draw) * columns**-0.5,
            )
    return factors


def _write(
    shards: list[Shapes],
    stem: Path,
    dtype: torch.dtype,
    device: torch.device,
    factors: Mapping[str, float] = {},
) -> list[Path]:
    paths = []
    for number, shapes in enumerate(shards, 1):
        place = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        paths.append(Path(f"{stem}{place}.safetensors"))
        drawn = {name: _draw(name, shape, dtype, device) for name, shape in shapes.items()}
        for name in factors.keys() & drawn.keys():
            drawn[name] *= factors[name]
        save_file(drawn, paths[-1])
    for _ in in_order(file_digest, paths, threads=len(paths)):  # noted, as after an import
        pass
    return paths


def _write_tokenizer(folder: Path, text_encoder: Shapes) -> None:
    """The Tiny models', with as many tokens as the text encoder knows; the others never occur."""
    tiny._write_tokenizer(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    for number in range(len(vocabulary), text_encoder["token_embedding.weight"][0]):
        vocabulary[f"<unused {number}>"] = number
    path.write_text(json.dumps(content))


def _shards(shapes: Shapes, dtype: torch.dtype) -> Iterator[Shapes]:
    """Of five GB, as the releases have them."""
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        if shard and size > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += torch.Size(shape).numel() * dtype.itemsize
    yield shard


def _draw(name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """As torch's own layers begin; of norms and their like, ones."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    if "modulation" in name:
        return tensor.normal_(std=shape[-1] ** -0.5)
    if len(shape) < 2 or "gamma" in name:
        return tensor.fill_(0.0 if name.endswith("bias") else 1.0)
    fan_in = torch.Size(shape[1:]).numel()
    return tensor.uniform_(-1, 1).mul_(fan_in**-0.5)
