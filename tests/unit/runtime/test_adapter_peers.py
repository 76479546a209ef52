"""The same adapter file here and in stock diffsynth and diffusers, wherever they load it: the
transformer predicts the same in float32."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffsynth.diffusion.base_pipeline import BasePipeline
from diffusers import WanImageToVideoPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from adapters import THEIRS, block_layers, random_factors, shapes_of, state
from diffusers_peer import SIGMA, predict, random_inputs, stock_transformer
from renders import adapter
from wan_runtime.contract.steps import Expert
from wan_runtime.models import load
from wan_runtime.models.adapters.applied import AdapterFile, AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.rendering.adapters import applied

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
STRENGTH = 0.75
TARGETS = sorted(THEIRS.values())
DOWN, UP = "lora_down.weight", "lora_up.weight"
CLOSE = 1e-3


@dataclass
class Tried:
    """A file, by how it differs from the plainest."""

    stem: str = "{}"
    a: str = "lora_A.weight"
    b: str = "lora_B.weight"
    image: bool = True
    """Whether it has the image branches of Wan2.1."""
    alpha: float | None = None
    """A tensor beside each layer's."""
    ffn: int = 2
    """Rank of the MLP's layers; the others have 2."""
    header: dict[str, Any] = field(default_factory=dict)
    """Fields of LoraConfig."""
    biases: str = ""
    """Ending of the key of a bias of each layer."""
    head: bool = False
    """Whether it has differences of the last layer, as distilled adapters do."""

    def write(self, path: Path, dit: nn.Module) -> None:
        shapes = shapes_of(dit, block_layers(dit, image=self.image))
        ranks = {layer: self.ffn if ".ffn." in layer else 2 for layer in shapes}
        factors = random_factors(shapes, ranks)
        tensors = state(factors, self.stem, self.a, self.b)
        generator = torch.Generator().manual_seed(1)
        for name in list(tensors):
            if name.endswith(f".{self.b}"):
                layer = name.removesuffix(f".{self.b}")
                if self.alpha is not None:
                    tensors[f"{layer}.alpha"] = torch.tensor(self.alpha)
                if self.biases:
                    size = len(tensors[name])
                    tensors[f"{layer}.{self.biases}"] = torch.randn(size, generator=generator) / 4
        if self.head:
            last = dict(dit.named_modules())["head.head"]
            for end, size in (("diff", last.weight.shape), ("diff_b", last.bias.shape)):
                tensors[self.stem.format("head.head") + f".{end}"] = torch.randn(size) / 8
        modules = {"target_modules": TARGETS} if self.header else {}
        fields = {f"transformer.{k}": value for k, value in (self.header | modules).items()}
        header = {"lora_adapter_metadata": json.dumps(fields)} if fields else {}
        save_file(tensors, path, {"format": "pt", **header})


DIFFSYNTH = {
    "its own": Tried(a="lora_A.default.weight", b="lora_B.default.weight"),
    "bare": Tried(),
    "ComfyUI": Tried("diffusion_model.{}", ffn=4),
    "with alpha": Tried("diffusion_model.{}", DOWN, UP, alpha=3.0, ffn=4),
    "up and down": Tried("{}", DOWN, UP),
}
DIFFUSERS = {
    "its own": Tried("transformer.{theirs}"),
    "mixed ranks": Tried("transformer.{theirs}", ffn=4),
    "header": Tried("transformer.{theirs}", header={"r": 2, "lora_alpha": 3}),
    "patterns": Tried(
        "transformer.{theirs}",
        ffn=4,
        header={
            "r": 2, "lora_alpha": 3, "rank_pattern": {"ffn.net.0.proj": 4, "net.2": 4},
            "alpha_pattern": {"attn1.to_q": 1, "^blocks.0.ffn.net.2": 6},
        },
    ),
    "stabilised": Tried(
        "transformer.{theirs}", header={"r": 2, "lora_alpha": 3, "use_rslora": True}
    ),
    "biases": Tried(
        "transformer.{theirs}", header={"r": 2, "lora_alpha": 3, "lora_bias": True},
        biases="lora_B.bias",
    ),
    "ComfyUI": Tried("diffusion_model.{}", alpha=3.0),
    "distilled": Tried("diffusion_model.{}", DOWN, UP, biases="diff_b", head=True),
    "musubi": Tried("lora_unet_{word}", DOWN, UP, alpha=3.0),
    "of a text-to-video model": Tried("diffusion_model.{}", image=False),
}  # fmt: skip


@pytest.fixture(scope="module")
def dit(tiny21: ModelFiles) -> nn.Module:
    return load.load_dit(tiny21, Expert.ONLY, torch.float32, CPU)


@pytest.fixture(scope="module")
def pipe(tiny21: ModelFiles) -> BasePipeline:
    return BasePipeline(device="cpu", torch_dtype=torch.float32)


@torch.no_grad()
def predicted(dit: nn.Module, *adapters: AppliedAdapter, clip: bool = True) -> Tensor:
    noisy, conditions = random_inputs(clip=clip)
    cache = AdapterCache(2**30, torch.float32)
    transformer = Transformer(dit, CPU, torch.float32)
    with applied({Expert.ONLY: transformer}, adapters, cache):
        return transformer.begin(conditions).velocity(noisy, SIGMA)


def used(path: Path, strength: float = STRENGTH) -> AppliedAdapter:
    return adapter("a", {Expert.ONLY: path}, strength)


def check_same(base: Tensor, ours: Tensor, theirs: Tensor) -> None:
    assert float((ours - base).norm() / base.norm()) > 0.1, "it does something"
    assert float((ours - theirs).norm() / theirs.norm()) < CLOSE
    assert float((ours - theirs).norm() / (theirs - base).norm()) < 10 * CLOSE


@pytest.mark.parametrize("name", DIFFSYNTH)
def test_as_diffsynth(name: str, dit: nn.Module, pipe: BasePipeline, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    DIFFSYNTH[name].write(path, dit)
    base = predicted(dit)
    stock = copy.deepcopy(dit)
    with pytest.warns(UserWarning, match="Alpha") if DIFFSYNTH[name].alpha else load.quietly():
        pipe.load_lora(stock, str(path), alpha=STRENGTH)
    check_same(base, predicted(dit, used(path)), predicted(stock))
    assert torch.equal(predicted(dit), base)


@pytest.mark.parametrize("name", DIFFUSERS)
def test_as_diffusers(name: str, dit: nn.Module, tiny21: ModelFiles, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    DIFFUSERS[name].write(path, dit)
    base = predicted(dit)
    transformer = stock_transformer(tiny21, Expert.ONLY)
    stock = WanImageToVideoPipeline(None, None, None, None, transformer=transformer)
    stock.load_lora_weights(str(tmp_path), weight_name=path.name, adapter_name="a")
    stock.set_adapters("a", STRENGTH)
    noisy, conditions = random_inputs(clip=True)
    check_same(base, predicted(dit, used(path)), predict(transformer, noisy, SIGMA, conditions))
    assert torch.equal(predicted(dit), base)


def test_both_experts_of_one_file_as_diffusers(tiny22: ModelFiles, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    dits = {
        each: Transformer.load(tiny22, each, CPU, torch.float32) for each in tiny22.preset.experts
    }
    stems = {Expert.HIGH_NOISE: "transformer.{theirs}", Expert.LOW_NOISE: "transformer_2.{theirs}"}
    tensors: dict[str, Tensor] = {}
    for seed, (expert, dit) in enumerate(dits.items()):
        module = dit._module
        factors = random_factors(shapes_of(module, block_layers(module)), seed=seed)
        tensors |= state(factors, stems[expert])
    save_file(tensors, path)
    noisy, conditions = random_inputs(clip=False)
    file = AdapterFile(path=str(path), address="s3://bucket/a", shared=True)
    use = AppliedAdapter(name="a", files=dict.fromkeys(dits, file), strength=1.0)
    for expert, dit in dits.items():
        base = predicted(dit._module, clip=False)
        with torch.no_grad(), applied(dits, (use,), AdapterCache(2**30, torch.float32)):
            ours = dit.begin(conditions).velocity(noisy, SIGMA)
        transformer = stock_transformer(tiny22, expert)
        model = stems[expert].split(".")[0]
        transformer.load_lora_adapter(str(path), prefix=model, use_safetensors=True)
        check_same(base, ours, predict(transformer, noisy, SIGMA, conditions))
