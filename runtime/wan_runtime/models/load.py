"""Loading the parts of a base model through diffsynth. One path for 14B and for tiny.

diffsynth recognises a file by the hash of its tensors' names and shapes; a file that it does not
recognise, or recognises as something else, is not this preset's.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffsynth.configs import MODEL_CONFIGS
from diffsynth.models.model_loader import ModelPool
from diffsynth.pipelines.wan_video import ModelConfig, WanVideoPipeline
from torch import Tensor, nn

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.model_parts import DIT, IMAGE_ENCODER, TEXT_ENCODER, VAE
from wan_runtime.models import reading, shapes, tiny, tokenizer
from wan_runtime.models.headers import joined
from wan_runtime.models.layout import ModelFiles
from wan_runtime.presets import Preset

log = logging.getLogger(__name__)

LARGE = 2**30
"""Bytes of a part from which several threads read it."""


def compute_device() -> torch.device:
    """The process's GPU, by its index, if there is one, else the CPU, where torch is then held to
    one thread.

    CPUs run only the tiny models. Threads gain them nothing, spin for ever where a pod's CPU limit
    is below the node's cores (30 times slower, measured), and would sum in another order on another
    node, so that a resumed run would differ in its last bits.
    """
    if torch.cuda.is_available():
        # Some functions of torch.cuda refuse a device without an index.
        return torch.device("cuda", torch.cuda.current_device())
    torch.set_num_threads(1)
    return torch.device("cpu")


def check_device(preset: Preset, device: torch.device) -> None:
    """Raises InfrastructureError(UNEXPECTED) for a model that is no Tiny one on a CPU, where it
    would take all memory, and then days."""
    if device.type == "cpu" and not preset.tiny:
        raise InfrastructureError(
            Reason.UNEXPECTED,
            f"{preset.name} is computed on a GPU, and torch finds none in this pod: take the CUDA "
            "flavour of the runtime image, and see that nvidia-smi lists a GPU on the node",
        )


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs. CPUs run only the tiny models, and most have no fast bfloat16."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load_dit(
    files: ModelFiles, expert: Expert, dtype: torch.dtype, device: torch.device
) -> nn.Module:
    """The transformer of one expert, frozen, in eval mode. Shards go straight to the device: no
    second copy.
    """
    return _load(files, files.dits[expert], "wan_video_dit", dtype, device)


def recognised(model_hash: str) -> bool:
    """Whether diffsynth takes tensors of these names and shapes for a Wan transformer."""
    return any(
        config["model_hash"] == model_hash and config["model_name"] == "wan_video_dit"
        for config in MODEL_CONFIGS
    )


def load_vae(files: ModelFiles, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The video VAE, both ways."""
    return _forgetful(_load(files, (files.vae,), "wan_video_vae", dtype, device))


def load_text_encoder(files: ModelFiles, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """umT5's encoder."""
    return _load(files, (files.text_encoder,), "wan_video_text_encoder", dtype, device)


def load_image_encoder(files: ModelFiles, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """CLIP's image side (Wan2.1 only)."""
    if files.image_encoder is None:
        raise ValueError(f"{files.preset.name} has no image encoder")
    return _load(files, (files.image_encoder,), "wan_video_image_encoder", dtype, device)


def load_tokenizer(files: ModelFiles) -> Any:
    """umT5's tokenizer as diffsynth wraps it: 512 tokens, padded, whitespace cleaned."""
    return tokenizer.load(files.tokenizer)


def load_pipeline(
    files: ModelFiles, dtype: torch.dtype, device: torch.device, *, offload: bool = False
) -> Any:
    """The diffsynth pipeline with all parts, unmodified but for what its VAE keeps.

    Args:
        offload: keep parts in host memory while they are not at work, as diffsynth's low-memory
            examples do: T5 and two 14B experts together leave an 80 GB GPU no room to sample.
    """
    prepare(files.preset)
    # The order of a Wan2.2 pair decides which becomes pipe.dit and which pipe.dit2.
    given = [(DIT, files.dits[expert]) for expert in files.preset.experts]
    given += [(TEXT_ENCODER, (files.text_encoder,)), (VAE, (files.vae,))]
    if files.image_encoder is not None:
        given.append((IMAGE_ENCODER, (files.image_encoder,)))
    for part, shards in given:
        _require(files.preset, part, shards)
    paths = [shards for _, shards in given]
    placement: dict[str, Any] = {}
    if offload:
        for phase in ("offload", "onload", "preparing", "computation"):
            placement[f"{phase}_dtype"] = dtype
            placement[f"{phase}_device"] = "cpu" if "load" in phase else device.type
    with _loading(files, files.preset.name), quietly():
        pipe = WanVideoPipeline.from_pretrained(
            torch_dtype=dtype,
            device=device.type,
            model_configs=[ModelConfig(path=_argument(shards), **placement) for shards in paths],
            tokenizer_config=ModelConfig(path=str(files.tokenizer)),
            redirect_common_files=False,
            vram_limit=_memory_limit(device) if offload else None,
        )
    wanted = {
        "dit": True,
        "dit2": len(files.preset.experts) == 2,
        "image_encoder": files.preset.uses_clip,
    }
    for part, needed in wanted.items():
        if needed and getattr(pipe, part) is None:
            raise InputError(
                Reason.MODEL_INVALID, f"{files.folder} has no {part} that diffsynth recognises"
            )
    _forgetful(pipe.vae)
    return pipe


def _forgetful(vae: nn.Module) -> nn.Module:
    """diffsynth's VAE keeps what its convolutions saw of the last frames until it is used again:
    gigabytes at 1280x720, which transformers lack meanwhile. Here it lets go of them at once."""
    model: Any = vae.model

    def forgetting(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(work)
        def go(*arguments: Any, **options: Any) -> Tensor:
            try:
                return work(*arguments, **options)
            finally:
                model.clear_cache()

        return go

    model.encode, model.decode = forgetting(model.encode), forgetting(model.decode)
    return vae


def _load(
    files: ModelFiles, paths: tuple[Path, ...], name: str, dtype: torch.dtype, device: torch.device
) -> nn.Module:
    prepare(files.preset)
    pool = ModelPool()
    vram = dict.fromkeys(
        (
            "offload_dtype",
            "offload_device",
            "onload_dtype",
            "onload_device",
            "preparing_dtype",
            "preparing_device",
        )
    )
    _require(files.preset, name.removeprefix("wan_video_"), paths)
    listing = ", ".join(path.name for path in paths)
    with _loading(files, listing), quietly():
        pool.auto_load_model(
            _argument(paths),
            vram_config={**vram, "computation_dtype": dtype, "computation_device": str(device)},
            state_dict=_read_ahead(paths, dtype, device),
        )
        model = pool.fetch_model(name)
    if not isinstance(model, nn.Module):
        raise InputError(Reason.MODEL_INVALID, f"{files.folder}: {listing} holds no {name}")
    return model.eval().requires_grad_(False)


def _read_ahead(
    paths: tuple[Path, ...], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor] | None:
    """The tensors of large safetensors files; None: diffsynth reads them, one after the other."""
    size = sum(path.stat().st_size for path in paths)
    if size < LARGE or any(path.suffix != ".safetensors" for path in paths):
        return None
    return reading.read(paths, dtype, device)


def _require(preset: Preset, part: str, paths: Iterable[Path]) -> None:
    """Raises InputError(MODEL_INVALID) for what diffsynth would load as something else, such as
    FP8 as bfloat16: it looks at names and shapes alone."""
    headers = {path.name: shapes.header_of_file(path) for path in paths}
    shapes.check(preset, part, ", ".join(headers), joined(headers))


@contextlib.contextmanager
def _loading(files: ModelFiles, listing: str) -> Iterator[None]:
    """Turn errors into InputError(MODEL_INVALID) of the files, but those of memory and the disk."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError, MemoryError, OSError):
        raise
    except Exception as error:  # diffsynth, safetensors and torch.load each raise their own
        log.warning("%s: %s", files.folder, listing, exc_info=error)
        raise InputError(
            Reason.MODEL_INVALID,
            f"{files.folder}: {listing} cannot be loaded, though names and shapes fit: fetch the "
            "release again",
        ) from error


def _memory_limit(device: torch.device) -> float | None:
    """GiB that weights may take on the GPU: all but two, which activations start from."""
    if device.type != "cuda":
        return None
    return float(torch.cuda.mem_get_info(device)[1]) / 2**30 - 2


def prepare(preset: Preset) -> None:
    """Make diffsynth know the preset's files. The functions here do so themselves."""
    if preset.tiny:
        tiny.register()


def _argument(paths: Iterable[Path]) -> str | list[str]:
    """diffsynth takes one path as a string and shards as a list."""
    names = [str(path) for path in paths]
    return names[0] if len(names) == 1 else names


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """diffsynth reports by print(); that would break the JSON log lines on stdout."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        yield
    for line in output.getvalue().splitlines():
        log.debug("diffsynth: %s", line)
