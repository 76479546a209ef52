"""The export step: what was trained as the files that users load, certified and committed as the
artifact.

Full weights are rounded to bfloat16, as the base model's are, in the base model's names. Adapters:
every tool adds B A to the weights, so the factor alpha / rank is folded into B and no alpha is
stored. Their files are float32: bfloat16 would halve them, but round each factor by up to 0.4 %,
and the certificate promises the trained delta within 0.1 %. Readers cast on loading anyway.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage, Manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import Dialect, finetune_of
from wan_runtime.contract.job import Certificate, JobSpec, ManifestRef
from wan_runtime.contract.results import training_id
from wan_runtime.contract.steps import SUFFIXES, Expert
from wan_runtime.models.adapters.dialects import write_adapter
from wan_runtime.models.dit.lora import delta_factors
from wan_runtime.models.load import prepare
from wan_runtime.models.weights import SafetensorsFiles
from wan_runtime.presets import preset_of
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.training import full, full_export, lora
from wan_runtime.training.card import model_card
from wan_runtime.training.certificate import CONSUMERS, certify
from wan_runtime.training.experts import PREFIXES, weights_of
from wan_runtime.training.trainer import PICTURE, RECORD

ENDINGS = {
    Dialect.DIFFSYNTH: ".safetensors",
    Dialect.COMFYUI: ".comfyui.safetensors",
    Dialect.DIFFUSERS: ".diffusers.safetensors",
}
"""Files, not folders: ComfyUI lists what lies in its models/loras by file name, and a name that
says what it is for survives being copied there."""
FOLDERS = {
    Expert.ONLY: "transformer",
    Expert.HIGH_NOISE: "transformer",
    Expert.LOW_NOISE: "transformer_2",
}
"""Folders of full weights for diffusers, as its pipelines name the models."""
DIFFUSERS_STEM = "diffusion_pytorch_model"
"""The file that diffusers looks for in a model's folder."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What one train step committed, fetched."""

    expert: Expert
    ref: ManifestRef
    manifest: Manifest
    folder: Path

    def record(self) -> dict[str, Any]:
        """training.json."""
        content: dict[str, Any] = json.loads((self.folder / RECORD).read_text())
        return content

    def base(self) -> dict[str, str]:
        """What the weights beside it were rounded to, if they were."""
        precision = self.record()["training"].get("base_precision", "BF16")
        return {} if precision == "BF16" else {"basePrecision": precision}


def file_name(job: JobSpec, expert: Expert, ending: str) -> str:
    """`<run>-high-noise.safetensors` for an expert of a pair, else `<run>.safetensors`."""
    return f"{job.name}{SUFFIXES[expert]}{ending}"


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Convert, certify and commit."""
    spec = finetune_of(job)
    preset = preset_of(job)
    parts = []
    for expert, ref in weights_of(job, store).items():
        report.update(activity=f"fetching {training_id(expert)}")
        folder = work / "trained" / expert
        parts.append(Trained(expert, ref, manifest.fetch(store, ref, folder), folder))

    prepare(preset)
    certificates = tuple(
        export_format(job, dialect, parts, work, report) for dialect in spec.formats
    )
    pictures = {file_name(job, part.expert, f"-{PICTURE}"): part.folder / PICTURE for part in parts}
    records = {part.expert: part.record() for part in parts}
    card = work / "README.md"
    card.write_text(model_card(job, preset, records, list(pictures), certificates))
    weights = {name: work / name for each in certificates for name in each.files}

    summary: dict[str, int | float | str] = {
        "files": sum(name.endswith(".safetensors") for name in weights)
    }
    if spec.full is None:
        summary["rank"] = int(_record_lora(parts[0])["rank"])
    for part in parts:
        prefix = PREFIXES[part.expert]
        summary |= {f"{prefix}{key}": value for key, value in part.manifest.summary.items()}
    source = parts[0].manifest.lineage
    ref = manifest.commit(
        store,
        job.output_prefix,
        {**weights, **pictures, card.name: card},
        kind="weights",
        summary=summary,
        lineage=Lineage.of(
            job,
            base_weights=source.base_weights,
            base_precision=source.base_precision,
            dataset=source.dataset,
            seed=source.seed,
        ),
        certificates=certificates,
    )
    worst = max(each.worst_difference for each in certificates)
    what = "weight deltas as trained" if spec.full is None else "weights as trained, in bfloat16,"
    return Outcome(
        manifest=ref,
        message=f"{', '.join(spec.formats)}: {what} within {worst:.1e}",
        summary=summary,
        certificates=certificates,
    )


def export_format(
    job: JobSpec, dialect: Dialect, parts: list[Trained], work: Path, report: Reporter
) -> Certificate:
    """Write all experts in one format and reload them. Raises InfrastructureError if what is read
    is not what was trained.
    """
    files: list[str] = []
    worst = 0.0
    for number, part in enumerate(parts):
        report.update(
            activity=f"exporting for {dialect}", current=number, total=len(parts), unit="files"
        )
        write = _write_full if finetune_of(job).full is not None else _write_adapter
        written, difference = write(job, dialect, part, work)
        files += written
        worst = max(worst, difference)
    return Certificate(
        format=dialect,
        consumer=CONSUMERS[dialect],
        worst_difference=float(f"{worst:.3g}"),
        files=tuple(files),
    )


def _write_adapter(
    job: JobSpec, dialect: Dialect, part: Trained, work: Path
) -> tuple[list[str], float]:
    """Names of the certified files, and their largest relative difference."""
    factors = delta_factors(load_file(part.folder / lora.WEIGHTS), _scale(part))
    path = work / file_name(job, part.expert, ENDINGS[dialect])
    spec = _record_lora(part)
    scale = {"rank": str(spec["rank"]), "alpha": str(spec["alpha"]), "alphaFolded": "true"}
    write_adapter(dialect, path, factors, {**_metadata(job, part), **scale})
    return [path.name], certify(dialect, path, factors)


def _write_full(
    job: JobSpec, dialect: Dialect, part: Trained, work: Path
) -> tuple[list[str], float]:
    """As `_write_adapter`."""
    stem = {
        Dialect.DIFFSYNTH: file_name(job, part.expert, ""),
        Dialect.COMFYUI: file_name(job, part.expert, ".comfyui"),
        Dialect.DIFFUSERS: f"{job.name}.diffusers/{FOLDERS[part.expert]}/{DIFFUSERS_STEM}",
    }[dialect]
    with SafetensorsFiles(full.trained_files(part.folder)) as trained:
        files = full_export.export(dialect, trained, work, stem, _metadata(job, part))
        shards = [work / name for name in files if name.endswith(".safetensors")]
        return files, full_export.certify(dialect, shards, trained)


def _record_lora(part: Trained) -> dict[str, Any]:
    content: dict[str, Any] = part.record()["lora"]
    return content


def _scale(part: Trained) -> float:
    """alpha / rank as it was in training, whatever this job says."""
    spec = _record_lora(part)
    return float(spec["alpha"]) / int(spec["rank"])


def _metadata(job: JobSpec, part: Trained) -> dict[str, str]:
    return {
        "format": "pt",
        "preset": job.base.preset,
        "expert": part.expert,
        "run": f"{job.namespace}/{job.name}",
        "trainManifest": part.ref.sha256,
        **part.base(),
    }
