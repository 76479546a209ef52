"""README.md of an exported adapter: what it is, how it was made, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wan_runtime.job import Expert, JobSpec
from wan_runtime.presets import Preset

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
    spec = next(iter(records.values()))["lora"]
    rows = "\n".join(
        f"| {expert} | {len(record['steps'])} | {record['probes'][0]['losses']['mean']:.4f} "
        f"| {record['probes'][-1]['losses']['mean']:.4f} |"
        for expert, record in records.items()
    )
    loading = "\n".join(
        f'pipe.load_lora(pipe.{MODULES[expert]}, "{name}")'
        for expert, name in zip(records, weights, strict=True)
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
    return f"""# {job.name}

LoRA for {preset.name}, rank {spec["rank"]}, on {", ".join(spec["target_modules"])}.
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
alpha / rank is folded into the weights: the strength as trained is 1. Weights are float32.
Reloaded through DiffSynth's key map, every layer's delta equals the trained one within {worst:.1e}.
Checksums and lineage: `manifest.json`.
"""
