"""README.md of exported weights: what it is, how it was made, how to load it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wan_runtime.contract.finetune import Dialect, finetune_of
from wan_runtime.contract.job import Certificate, JobSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.presets import Preset

LORA_PROOF = (
    "alpha / rank is folded into the weights: the strength as trained is 1. Weights are float32.\n"
    "Each file was reloaded and every layer's delta compared with the trained one:"
)
FULL_PROOF = (
    "Weights are the trained float32 ones rounded to bfloat16, as GPUs ran them in training.\n"
    "Each file was reloaded and every tensor compared with the trained one:"
)
MODULES = {Expert.ONLY: "dit", Expert.HIGH_NOISE: "dit", Expert.LOW_NOISE: "dit2"}
"""Attribute of diffsynth's pipeline that holds the expert."""


def model_card(
    job: JobSpec,
    preset: Preset,
    records: Mapping[Expert, Mapping[str, Any]],
    pictures: Sequence[str],
    certificates: Sequence[Certificate],
) -> str:
    """Markdown. The same for the same artifact: no dates. `records`: training.json of each expert,
    in the order of an adapter's files.
    """
    adapter = next(iter(records.values())).get("lora")
    rounded = any(r["training"].get("base_precision") == "FP8" for r in records.values())
    title = _lora_title(adapter) if adapter else "Full fine-tuning, all weights"
    spec = finetune_of(job)
    sizes = " or ".join(
        f"{each.frames} frames of {each.width}x{each.height}" for each in spec.dataset.buckets
    )
    clips = f"clips of {sizes} at {spec.dataset.fps:g} fps"
    rows = "\n".join(
        f"| {expert} | {len(record['steps'])} | {record['probes'][0]['losses']['mean']:.4f} "
        f"| {record['probes'][-1]['losses']['mean']:.4f} |"
        for expert, record in records.items()
    )
    curves = "\n".join(f"![loss]({name})" for name in pictures)
    loading = LOAD_ADAPTER if adapter else LOAD_FULL
    loads = "\n\n".join(
        loading[each.format](list(records), each.files)
        + ("\n" + _call(job, preset) if each.format is Dialect.DIFFSYNTH else "")
        for each in certificates
    )
    proofs = "\n".join(
        f"| {each.format} | {each.consumer} | {each.worst_difference:.1e} |"
        for each in certificates
    )
    started = "".join(
        f"\n{expert} started from `{record['initFrom']['uri']}`."
        for expert, record in records.items()
        if "initFrom" in record
    )
    base = (
        "\nThe base weights beside it were rounded to FP8 (E4M3) in training: it can be used with "
        "the model as released, or in FP8."
        if rounded
        else ""
    )
    return f"""# {job.name}

{title}, of {preset.name}.{base}
Trained by `{job.namespace}/{job.name}` on {clips}.{started}

| expert | steps | held-out loss before | after |
| --- | --- | --- | --- |
{rows}

{curves}

{loads}

## Certificate
{LORA_PROOF if adapter else FULL_PROOF}

| format | reloaded by | largest relative difference |
| --- | --- | --- |
{proofs}

Checksums and lineage: `manifest.json`.
"""


def _lora_title(spec: Mapping[str, Any]) -> str:
    return f"LoRA, rank {spec['rank']}, on {', '.join(spec['target_modules'])}"


def _call(job: JobSpec, preset: Preset) -> str:
    size = finetune_of(job).dataset.buckets[0]
    boundary = "" if preset.boundary is None else f", switch_DiT_boundary={preset.boundary}"
    return _python(
        "video = pipe(\n"
        f"    prompt=..., input_image=..., seed=0, height={size.height}, width={size.width},\n"
        f"    num_frames={size.frames}, sigma_shift={preset.shift:g}, cfg_scale={preset.guidance:g}"
        f"{boundary},\n)"
    )


def _diffsynth_adapter(experts: Sequence[Expert], files: Sequence[str]) -> str:
    loads = (
        f'pipe.load_lora(pipe.{MODULES[expert]}, "{name}")'
        for expert, name in zip(experts, files, strict=True)
    )
    return "## DiffSynth-Studio\n" + _python("\n".join(loads))


def _comfyui_adapter(experts: Sequence[Expert], files: Sequence[str]) -> str:
    words = {Expert.HIGH_NOISE: "high-noise ", Expert.LOW_NOISE: "low-noise "}
    nodes = (
        f"* `{name}`: node *Load LoRA (Model)* after the {words.get(expert, '')}model, strength 1"
        for expert, name in zip(experts, files, strict=True)
    )
    return "## ComfyUI\nInto `models/loras/`:\n" + "\n".join(nodes)


def _diffusers_adapter(experts: Sequence[Expert], files: Sequence[str]) -> str:
    second = {Expert.LOW_NOISE: ", load_into_transformer_2=True"}
    loads = (
        f'pipe.load_lora_weights(".", weight_name="{name}"{second.get(expert, "")})'
        for expert, name in zip(experts, files, strict=True)
    )
    return "## Diffusers\n" + _python(
        "# pipe: a WanImageToVideoPipeline of the base model\n" + "\n".join(loads)
    )


def _diffsynth_full(experts: Sequence[Expert], files: Sequence[str]) -> str:
    stems: dict[str, list[str]] = {}
    for name in files:
        if name.endswith(".safetensors"):
            stems.setdefault(re.sub(r"-\d{5}-of-\d{5}\.safetensors$", "", name), []).append(name)
    configs = "".join(f"    ModelConfig(path={paths!r}),\n" for paths in stems.values())
    return "## DiffSynth-Studio\n" + _python(
        "pipe = WanVideoPipeline.from_pretrained(model_configs=[\n"
        f"    # in place of the base model's transformer\n{configs}"
        "    ...,  # the other parts, as for the base model\n])"
    )


def _comfyui_full(experts: Sequence[Expert], files: Sequence[str]) -> str:
    names = ", ".join(f"`{name}`" for name in files)
    return f"## ComfyUI\nInto `models/diffusion_models/`, for *Load Diffusion Model*: {names}"


def _diffusers_full(experts: Sequence[Expert], files: Sequence[str]) -> str:
    folders = sorted({name.rsplit("/", 1)[0] for name in files})
    models = ", ".join(
        f'{path.rsplit("/", 1)[1]}=WanTransformer3DModel.from_pretrained("{path}")'
        for path in folders
    )
    return "## Diffusers\n" + _python(
        f"pipe = WanImageToVideoPipeline.from_pretrained(<base model>, {models})"
    )


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


LOAD_ADAPTER = {
    Dialect.DIFFSYNTH: _diffsynth_adapter,
    Dialect.COMFYUI: _comfyui_adapter,
    Dialect.DIFFUSERS: _diffusers_adapter,
}
LOAD_FULL = {
    Dialect.DIFFSYNTH: _diffsynth_full,
    Dialect.COMFYUI: _comfyui_full,
    Dialect.DIFFUSERS: _diffusers_full,
}
