"""Proof that an exported adapter file means what was trained: reload it as its tool would, compare
the deltas.
"""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path

import torch
from diffsynth.core.loader.file import load_state_dict
from diffsynth.utils.lora.general import GeneralLoRALoader
from safetensors.torch import load_file
from torch import Tensor

from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.models.adapters.changes import Factors
from wan_runtime.process.imports import importing

# Shapes: O out and I in features of a layer, R rank. A is [R, I], B is [O, R].

TOLERANCE = 1e-3
CONSUMERS = {
    Dialect.DIFFSYNTH: f"diffsynth {version('diffsynth')}",
    Dialect.COMFYUI: "ComfyUI's key names",
    Dialect.DIFFUSERS: f"diffusers {version('diffusers')}",
}
"""What stands for the tool: its own loader, or for ComfyUI, which is no library, the key names that
it publishes.
"""


def certify(dialect: Dialect, path: Path, trained: Factors) -> float:
    """Largest relative difference, over layers, between the file's delta and the trained one.

    Raises:
        InfrastructureError: UNEXPECTED, if layers differ or a difference reaches TOLERANCE: a bug
            of the export, or a file damaged on disk.
    """
    reloaded = reload(dialect, path, list(trained))
    if reloaded.keys() != trained.keys():
        odd = sorted(reloaded.keys() ^ trained.keys())
        raise _broken(dialect, path, f"{len(odd)} layers are only on one side, {odd[0]} among them")
    worst = 0.0
    for layer, factors in trained.items():
        difference = relative_difference(reloaded[layer], factors)
        # "not <" also catches NaN.
        if not difference < TOLERANCE:
            raise _broken(
                dialect,
                path,
                f"the weight delta of {layer} differs by {difference:.2e} of its norm",
            )
        worst = max(worst, difference)
    return worst


def reload(dialect: Dialect, path: Path, layers: list[str]) -> Factors:
    """The file as its tool reads it onto a model whose linear layers are `layers`."""
    match dialect:
        case Dialect.DIFFSYNTH:
            return read_with_diffsynth(path)
        case Dialect.COMFYUI:
            return read_as_comfyui(path, layers)
        case Dialect.DIFFUSERS:
            return read_with_diffusers(path, layers)


def read_with_diffsynth(path: Path) -> Factors:
    """The file through the key map of diffsynth's `load_lora`."""
    converted = GeneralLoRALoader(torch_dtype=torch.float32).convert_state_dict(
        load_state_dict(str(path))
    )
    suffix = ".lora_B.weight"
    return {
        name.removesuffix(suffix): (b, converted[name.replace("lora_B", "lora_A")])
        for name, b in converted.items()
        if name.endswith(suffix)
    }


def read_as_comfyui(path: Path, layers: list[str]) -> Factors:
    """The file as ComfyUI looks at it: each weight of the model asks for its own keys."""
    return _requested(load_file(path), {layer: f"diffusion_model.{layer}" for layer in layers})


def read_with_diffusers(path: Path, layers: list[str]) -> Factors:
    """The file through diffusers' `load_lora_weights`, up to the model: a layer is where diffusers'
    own conversion of the official checkpoint puts its weight.
    """
    with importing():  # seconds, that no other format needs
        from diffusers.loaders.lora_pipeline import WanLoraLoaderMixin
        from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    weights = convert_wan_transformer_to_diffusers({f"{layer}.weight": None for layer in layers})
    stems = [f"transformer.{name.removesuffix('.weight')}" for name in weights]
    state = WanLoraLoaderMixin.lora_state_dict(str(path))
    return _requested(state, dict(zip(layers, stems, strict=True)))


def _requested(state: dict[str, Tensor], stems: dict[str, str]) -> Factors:
    """(B, A) of each layer, by the start of its keys. A key that no layer asks for would be left
    out by the tool; it counts as a layer of its own, so that the certificate names it.
    """
    factors = {}
    for layer, stem in stems.items():
        a, b = (f"{stem}.lora_{side}.weight" for side in "AB")
        if a in state and b in state:
            factors[layer] = (state.pop(b), state.pop(a))
    return factors | {name: (tensor, tensor) for name, tensor in state.items()}


def relative_difference(ours: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> float:
    """|B1 A1 - B2 A2| / |B2 A2| in Frobenius norm, without forming the [O, I] products.

    |U V|^2 = trace((U^T U)(V V^T)), here with U = [B1, -B2] and V = [A1; A2]: 2R x 2R instead of
    5120 x 13824. float64, because the difference is what remains of a cancellation.
    """
    (b1, a1), (b2, a2) = ours, wanted
    if b1.shape[0] != b2.shape[0] or a1.shape[1] != a2.shape[1]:
        return float("inf")
    difference = _norm(torch.cat([b1, -b2], dim=1), torch.cat([a1, a2], dim=0))
    norm = _norm(b2, a2)
    if norm == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / norm


def _norm(u: Tensor, v: Tensor) -> float:
    u, v = u.double(), v.double()
    return math.sqrt(max(float(torch.trace((u.T @ u) @ (v @ v.T))), 0.0))


def _broken(dialect: Dialect, path: Path, what: str) -> InfrastructureError:
    return InfrastructureError(
        Reason.UNEXPECTED,
        f"{path.name}, reloaded as {dialect} does, is not what was trained: {what}. Not committed",
    )
