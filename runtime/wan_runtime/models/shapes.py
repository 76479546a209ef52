"""Whether files hold the weights of a preset, told by the names and shapes of their tensors alone.

What is expected comes from diffsynth's own models, built without memory at the released sizes: for
the transformers, T5 and the VAE these are name for name what diffsynth recognises the releases by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_image_encoder import WanImageEncoder
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_
from torch import nn

from wan_runtime.errors import InputError
from wan_runtime.job import Reason
from wan_runtime.models import tiny
from wan_runtime.presets import Preset

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
HEADER_LIMIT = 100 << 20
"""Bytes, as safetensors limits it."""
SHOWN = 3


def check(preset: Preset, part: str, names: str, found: Shapes) -> None:
    """Raises InputError(MODEL_INVALID) that names what is missing, too much or of another shape.

    `part`: `dit`, `text_encoder`, `vae` or `image_encoder`. `names`: of its files, for the message.
    """
    wanted = expected(preset, part)
    held = {name: shape for name, shape in found.items() if not name.startswith(TEXTUAL)}
    differ = [
        f"{name} is {list(held[name])}, not {list(wanted[name])}"
        for name in sorted(held.keys() & wanted.keys())
        if held[name] != wanted[name]
    ]
    faults = [
        *_some("missing", sorted(wanted.keys() - held.keys())),
        *_some("not of this model", sorted(held.keys() - wanted.keys())),
        *_some("of another shape", differ),
    ]
    if faults:
        raise InputError(
            Reason.MODEL_INVALID,
            f"{names}: these are not the weights of {preset.name}: {'; '.join(faults)}",
        )


def _some(what: str, names: list[str]) -> list[str]:
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return [f"{len(names)} tensors are {what} ({shown})"] if names else []


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
    with torch.device("meta"):
        model = (made if preset.tiny else released)[part]()
    # diffsynth wraps the image encoder once more than the release does.
    prefix = "model." if part == "image_encoder" and not preset.tiny else ""
    return {
        name.removeprefix(prefix): tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
    }


def of_safetensors(read: Callable[[int, int], bytes], size: int, name: str) -> Shapes:
    """Names and shapes in the header of a file of `size` bytes. `read(offset, length)` reads from
    it.

    Raises InputError(MODEL_INVALID), also for a file that was cut off.
    """
    try:
        length = int.from_bytes(read(0, 8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise ValueError(f"a header of {length} bytes")
        header: dict[str, Any] = json.loads(read(8, length))
        header.pop("__metadata__", None)
        end = max(entry["data_offsets"][1] for entry in header.values())
        shapes = {tensor: tuple(entry["shape"]) for tensor, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            Reason.MODEL_INVALID, f"{name} is not a safetensors file: {error}"
        ) from error
    if size != 8 + length + end:
        raise InputError(
            Reason.MODEL_INVALID,
            f"{name} has {size} bytes; its header says {8 + length + end}: was it cut off?",
        )
    return shapes


def of_file(path: Path, name: str) -> Shapes:
    """Names and shapes of a local file, `.safetensors` or `.pth`."""
    if path.suffix == ".pth":
        return {key: tuple(tensor.shape) for key, tensor in unpickled(path, name).items()}
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return of_safetensors(read, path.stat().st_size, name)


def unpickled(path: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a `.pth`, mapped from the file. Nothing but tensors is unpickled.

    Raises InputError(MODEL_INVALID).
    """
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise InputError(Reason.MODEL_INVALID, f"{name} cannot be read: {error}") from error
    except Exception as error:  # pickle.UnpicklingError: something else than tensors
        raise InputError(
            Reason.MODEL_INVALID, f"{name} holds more than tensors: {error}"
        ) from error
    for wrapper in ("state_dict", "module", "model_state"):
        if isinstance(content, dict) and set(content) == {wrapper}:
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in content.values()
    ):
        raise InputError(Reason.MODEL_INVALID, f"{name} is not a file of named tensors")
    return content
