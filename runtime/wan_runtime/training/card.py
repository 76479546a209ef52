"""README.md of exported weights: what it is, how it was made, how to load it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wan_runtime.job import Expert, JobSpec
from wan_runtime.presets import Preset

LORA_PROOF = (
    "alpha / rank is folded into the weights: the strength as trained is 1. Weights are float32.\n"
    "Reloaded through DiffSynth's key map, every layer's delta equals the trained one"
)
FULL_PROOF = (
    "Weights are the trained float32 ones rounded to bfloat16, as GPUs ran them in training.\n"
    "Reloaded through DiffSynth, every tensor equals the trained one"
)
MODULES = {Expert.ONLY: "dit", Expert.HIGH_NOISE: "dit", Expert.LOW_NOISE: "dit2"}
"""Attribute of diffsynth's pipeline that holds the expert."""


def model_card(
    job: JobSpec,
    preset: Preset,
    records: Mapping[Expert, Mapping[str, Any]],
    files: list[str],
    worst: float,
) -> str:
    """Markdown. The same for the same artifact: no dates."""
    weights = [name for name in files if name.endswith(".safetensors")]
    pictures = [name for name in files if name.endswith(".png")]
    method = next(iter(records.values()))
    rows = "\n".join(
        f"| {expert} | {len(record['steps'])} | {record['probes'][0]['losses']['mean']:.4f} "
        f"| {record['probes'][-1]['losses']['mean']:.4f} |"
        for expert, record in records.items()
    )
    boundary = "" if preset.boundary is None else f", switch_DiT_boundary={preset.boundary}"
    curves = "\n".join(f"![loss]({name})" for name in pictures)
    size = job.dataset
    clips = f"clips of {size.frames} frames at {size.fps:g} fps, {size.width}x{size.height}"
    call = (
        "video = pipe(\n"
        f"    prompt=..., input_image=..., seed=0, height={size.height}, width={size.width},\n"
        f"    num_frames={size.frames}, sigma_shift={preset.shift:g}, cfg_scale={preset.guidance:g}"
        f"{boundary},\n)"
    )
    adapter = method.get("lora")
    title = _lora_title(adapter) if adapter else "Full fine-tuning, all weights"
    loading = _load_lora(list(records), weights) if adapter else _load_full(weights)
    proof = LORA_PROOF if adapter else FULL_PROOF
    return f"""# {job.name}

{title}, of {preset.name}.
Trained by `{job.namespace}/{job.name}` on {clips}.

| expert | steps | held-out loss before | after |
| --- | --- | --- | --- |
{rows}

{curves}

## Load with DiffSynth-Studio
```python
{loading}
{call}
```
{proof} within {worst:.1e}.
Checksums and lineage: `manifest.json`.
"""


def _lora_title(spec: Mapping[str, Any]) -> str:
    return f"LoRA, rank {spec['rank']}, on {', '.join(spec['target_modules'])}"


def _load_lora(experts: list[Expert], files: list[str]) -> str:
    return "\n".join(
        f'pipe.load_lora(pipe.{MODULES[expert]}, "{name}")'
        for expert, name in zip(experts, files, strict=True)
    )


def _load_full(files: list[str]) -> str:
    stems: dict[str, list[str]] = {}
    for name in files:
        stems.setdefault(re.sub(r"-\d{5}-of-\d{5}\.safetensors$", "", name), []).append(name)
    configs = "".join(f"    ModelConfig(path={paths!r}),\n" for paths in stems.values())
    return (
        "pipe = WanVideoPipeline.from_pretrained(model_configs=[\n"
        f"    # in place of the base model's transformer\n{configs}"
        "    ...,  # the other parts, as for the base model\n])"
    )
