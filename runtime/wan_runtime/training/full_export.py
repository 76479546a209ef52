"""All weights of a transformer as each tool loads them, and the proof that the files hold them.

| dialect | files | names |
| --- | --- | --- |
| DiffSynth | shards, and their index | official, by which the loader detects the model |
| ComfyUI | one file, since it loads no shards | official |
| Diffusers | a folder: `config.json`, shards, and their index | of `WanTransformer3DModel` |

bfloat16 in all, as the base models are released.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffsynth.configs import MODEL_CONFIGS
from diffsynth.core.loader.file import hash_model_file, hash_state_dict_keys, load_state_dict
from diffsynth.utils.state_dict_converters.wan_video_dit import WanVideoDiTFromDiffusers
from torch import Tensor

from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.models.load import recognised
from wan_runtime.models.weights import (
    SHARD_BYTES,
    SafetensorsFiles,
    shard_name,
    shards,
    stream_safetensors,
)
from wan_runtime.process.imports import importing

DTYPE = torch.bfloat16
CLIP_WIDTH = 1280
"""Width of the image tokens that Wan2.1's `img_emb` takes."""


def export(
    dialect: Dialect,
    trained: SafetensorsFiles,
    folder: Path,
    stem: str,
    metadata: Mapping[str, str],
) -> list[str]:
    """Write the files; their paths below `folder`. `stem` is the path of the first, without number
    and ending. One tensor at a time is in memory.
    """
    names = _names(dialect, trained)
    sizes = {theirs: DTYPE.itemsize * trained.shape(ours).numel() for theirs, ours in names.items()}
    total = sum(sizes.values())
    groups = shards(sizes, total if dialect is Dialect.COMFYUI else SHARD_BYTES)
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    files = []
    index: dict[str, str] = {}
    for number, group in enumerate(groups):
        files.append(shard_name(stem, number, len(groups)))
        stream_safetensors(
            folder / files[-1],
            {theirs: (DTYPE, trained.shape(names[theirs])) for theirs in group},
            lambda theirs: trained[names[theirs]].to(DTYPE),
            metadata,
        )
        index |= dict.fromkeys(group, Path(files[-1]).name)
    if len(groups) > 1:
        files.append(f"{stem}.safetensors.index.json")
        _write_json(folder / files[-1], {"metadata": {"total_size": total}, "weight_map": index})
    if dialect is Dialect.DIFFUSERS:
        files.append(str(Path(stem).with_name("config.json")))
        _write_json(folder / files[-1], diffusers_config(architecture(trained)))
    return files


def certify(dialect: Dialect, paths: list[Path], trained: SafetensorsFiles) -> float:
    """Reload exported safetensors as the tool does and compare them with the trained weights.

    Returns the largest relative difference, over tensors, between the file and the float32 weights:
    the rounding to bfloat16, and nothing else.

    Raises:
        InfrastructureError: UNEXPECTED, if the tool would not take the files for a Wan transformer,
            or a tensor is not the trained one rounded: a bug of the export, or a damaged disk.
    """
    check = {
        Dialect.DIFFSYNTH: _check_diffsynth,
        Dialect.COMFYUI: _check_comfyui,
        Dialect.DIFFUSERS: _check_diffusers,
    }[dialect]
    names = check(paths, trained)
    worst = 0.0
    for path in paths:
        for name, found in _tensors(dialect, path):
            wanted = trained[names[name]]
            if not torch.equal(found, wanted.to(DTYPE)):
                raise _broken(dialect, [path], f"{name} differs from the trained weights")
            size = float(wanted.norm())
            worst = max(worst, float((found.float() - wanted).norm()) / size if size else 0.0)
    return worst


def architecture(trained: SafetensorsFiles) -> dict[str, Any]:
    """Arguments of diffsynth's WanModel for these tensors, as its own table has them."""
    shapes = {name: torch.empty(trained.shape(name), device="meta") for name in trained}
    model_hash = hash_state_dict_keys(shapes)
    found: dict[str, Any] = next(
        config["extra_kwargs"] for config in MODEL_CONFIGS if config["model_hash"] == model_hash
    )
    return found


def diffusers_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of diffusers' WanTransformer3DModel, from the arguments of diffsynth's."""
    clip = arguments["has_image_input"]
    return {
        "_class_name": "WanTransformer3DModel",
        "_diffusers_version": version("diffusers"),
        "added_kv_proj_dim": arguments["dim"] if clip else None,
        "attention_head_dim": arguments["dim"] // arguments["num_heads"],
        "cross_attn_norm": True,
        "eps": arguments["eps"],
        "ffn_dim": arguments["ffn_dim"],
        "freq_dim": arguments["freq_dim"],
        "image_dim": CLIP_WIDTH if clip else None,
        "in_channels": arguments["in_dim"],
        "num_attention_heads": arguments["num_heads"],
        "num_layers": arguments["num_layers"],
        "out_channels": arguments["out_dim"],
        "patch_size": arguments["patch_size"],
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": arguments["text_dim"],
    }


def _names(dialect: Dialect, official: Iterable[str]) -> dict[str, str]:
    """The tool's name of each tensor -> the official one."""
    same = {name: name for name in official}
    if dialect is not Dialect.DIFFUSERS:
        return same
    with importing():  # seconds, that no other format needs
        from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    renamed: dict[str, str] = convert_wan_transformer_to_diffusers(same)
    return renamed


def _check_diffsynth(paths: list[Path], trained: SafetensorsFiles) -> dict[str, str]:
    """Name in the files -> official name, if the loader would take the files. So the others."""
    if not recognised(hash_model_file([str(path) for path in paths])):
        raise _broken(
            Dialect.DIFFSYNTH, paths, "diffsynth does not recognise them as a Wan transformer"
        )
    return {name: name for name in trained}


def _check_comfyui(paths: list[Path], trained: SafetensorsFiles) -> dict[str, str]:
    with SafetensorsFiles(paths) as found:
        odd = sorted(set(found) ^ set(trained))
    if odd or len(paths) != 1:
        what = f"{len(odd)} tensors are only on one side in {len(paths)} files: {odd[:1]}"
        raise _broken(Dialect.COMFYUI, paths, what)
    return {name: name for name in trained}


def _check_diffusers(paths: list[Path], trained: SafetensorsFiles) -> dict[str, str]:
    """diffusers' own model, made from config.json without memory, has just these tensors; their
    names are led back by another's table than the one that gave them.
    """
    with importing():
        from diffusers import WanTransformer3DModel
    config = json.loads((paths[0].parent / "config.json").read_text())
    with torch.device("meta"):
        model = WanTransformer3DModel.from_config(config)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    with SafetensorsFiles(paths) as found:
        shapes = {name: found.shape(name) for name in found}
    odd = sorted(name for name in wanted | shapes if wanted.get(name) != shapes.get(name))
    if odd:
        what = f"{len(odd)} tensors are not those of WanTransformer3DModel, such as {odd[0]}"
        raise _broken(Dialect.DIFFUSERS, paths, what)
    official = WanVideoDiTFromDiffusers({name: name for name in shapes})
    return {theirs: ours for ours, theirs in official.items()}


def _tensors(dialect: Dialect, path: Path) -> Iterable[tuple[str, Tensor]]:
    if dialect is Dialect.DIFFSYNTH:
        yield from load_state_dict(str(path)).items()
    else:
        with SafetensorsFiles([path]) as found:
            yield from found.items()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))


def _broken(dialect: Dialect, paths: list[Path], what: str) -> InfrastructureError:
    names = ", ".join(path.name for path in paths)
    return InfrastructureError(
        Reason.UNEXPECTED,
        f"{names}, reloaded as {dialect} does, is not what was trained: {what}. Not committed",
    )
