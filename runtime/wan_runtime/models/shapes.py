"""Whether files hold the weights of a preset: by names, dtypes and shapes of their tensors alone.

What is expected comes from diffsynth's own models, built without memory at the released sizes: for
the transformers, T5 and the VAE these are name for name what diffsynth recognises the releases by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_image_encoder import WanImageEncoder
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_
from torch import nn

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models import tiny
from wan_runtime.models.headers import Header, Read, read_header
from wan_runtime.models.pickles import pickle_header
from wan_runtime.models.recognise import Recognised, precision, recognise
from wan_runtime.presets import PRESETS, Preset

Shapes = Mapping[str, tuple[int, ...]]

DIT21: dict[str, Any] = {
    "has_image_input": True,
    "patch_size": [1, 2, 2],
    "in_dim": 36,
    "dim": 5120,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "text_dim": 4096,
    "out_dim": 16,
    "num_heads": 40,
    "num_layers": 40,
    "eps": 1e-6,
}
DIT22: dict[str, Any] = {**DIT21, "has_image_input": False, "require_clip_embedding": False}
TEXTUAL = "textual."
"""CLIP's other half, which the release holds and nobody reads."""
PICKLED = (".pth", ".pt", ".bin", ".ckpt")
"""Suffixes of files that torch wrote."""
NAMED = 3
OWN = {
    "text_encoder": "the text encoder umT5",
    "vae": "the VAE of Wan2.1",
    "image_encoder": "the image encoder CLIP",
}
"""What the parts that all presets share are recognised as."""


def check(preset: Preset, part: str, names: str, found: Header) -> None:
    """Raises InputError(MODEL_INVALID) that says what the files are and what to do or, if that is
    not known, what is missing, too much or of another shape.

    `part`: `dit`, `text_encoder`, `vae` or `image_encoder`. `names`: of its files, for the message.
    """
    wanted = expected(preset, part)
    tensors = {
        name: tensor for name, tensor in found.tensors.items() if not name.startswith(TEXTUAL)
    }
    held = {name: tensor.shape for name, tensor in tensors.items()}
    stored = precision(Header(tensors))
    if held == wanted and not stored:
        return
    seen = recognise(Header(tensors))
    faults: list[str] = []
    if held != wanted and seen.what and seen.what != _own(preset, part):
        faults.append(f"this is {seen.what}")
    if held != wanted and seen.naming:
        faults.append(f"it bears {seen.naming}")
    if stored:
        faults.append(f"it is stored in {stored}, and float32, bfloat16 and float16 are read")
    text = "; ".join(faults or _differences(held, wanted))
    raise InputError(
        Reason.MODEL_INVALID,
        f"{names}: these are not the released weights of {preset.name}: {text}. "
        f"{advice(preset, seen)}{_in_8_bits(part, stored, seen)}",
    )


def advice(preset: Preset, seen: Recognised) -> str:
    """What to do about files that are something else."""
    fitting = [name for name in PRESETS if seen.family and seen.family == _family(PRESETS[name])]
    if fitting and preset.name not in fitting:
        return f"Set model.preset to {' or '.join(fitting)}, or {fetch(preset)}"
    if seen.part == "adapter":
        use = "method.lora.initFrom or an adapter of a service takes it"
        return f"{use}; for the model, {fetch(preset)}"
    text = fetch(preset)
    return text[0].upper() + text[1:]


def _in_8_bits(part: str, stored: str, seen: Recognised) -> str:
    """How a transformer takes the memory of a quantised one all the same."""
    if part != "dit" or not stored or seen.part != "dit":
        return ""
    return ": training.basePrecision: FP8 keeps it in 8 bits on the GPU"


def fetch(preset: Preset) -> str:
    """Where the right weights are."""
    if preset.tiny:
        return f"leave out model.source: the runtime makes {preset.name} by itself"
    return f"fetch Wan-AI/{preset.name}, as it is released"


def _own(preset: Preset, part: str) -> str:
    return OWN.get(part) or f"the transformer of {_family(preset)}"


def _family(preset: Preset) -> str:
    """Name of presets whose transformers have the same tensors, 480P and 720P."""
    return preset.name.removesuffix("-720P").removesuffix("-480P")


def _differences(
    held: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> list[str]:
    differ = [
        f"{name} is {list(held[name])}, not {list(wanted[name])}"
        for name in sorted(held.keys() & wanted.keys())
        if held[name] != wanted[name]
    ]
    return [
        *_some("missing", sorted(wanted.keys() - held.keys())),
        *_some("not of this model", sorted(held.keys() - wanted.keys())),
        *_some("of another shape", differ),
    ]


def _some(what: str, names: list[str]) -> list[str]:
    named = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return [f"{len(names):,} tensors are {what} ({named})"] if names else []


@cache
def expected(preset: Preset, part: str) -> Shapes:
    """Names and shapes of a part's tensors."""
    dit = DIT21 if preset.uses_clip else DIT22
    small = tiny.DIT21 if preset.uses_clip else tiny.DIT22
    released: dict[str, Callable[[], nn.Module]] = {
        "dit": lambda: WanModel(**dit),
        "text_encoder": WanTextEncoder,
        "vae": lambda: VideoVAE_(z_dim=16),
        "image_encoder": WanImageEncoder,
    }
    made: dict[str, Callable[[], nn.Module]] = {
        "dit": lambda: WanModel(**small),
        "text_encoder": lambda: WanTextEncoder(**tiny.T5),
        "vae": lambda: VideoVAE_(**tiny.VAE),
        "image_encoder": tiny.TinyImageEncoder,
    }
    # Once in a process, and at no price: what is drawn at random next is as if it had not been.
    with torch.random.fork_rng(devices=[]), skip_model_initialization():
        model = (made if preset.tiny else released)[part]()
    # diffsynth wraps the image encoder once more than the release does.
    prefix = "model." if part == "image_encoder" and not preset.tiny else ""
    return {
        name.removeprefix(prefix): tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
    }


def header_of_file(path: Path) -> Header:
    """As `header_of`, of a local file."""
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return header_of(read, path.stat().st_size, path.name)


def header_of(read: Read, size: int, name: str) -> Header:
    """The header of a file of weights, `.safetensors` or `.pth`, of `size` bytes.

    Raises InputError(MODEL_INVALID), also for a file that was cut off.
    """
    is_pickle = name.endswith(PICKLED)
    return (pickle_header if is_pickle else read_header)(read, size, name)
