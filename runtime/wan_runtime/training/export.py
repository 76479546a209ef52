"""The export step: what was trained as the files that users load, certified and committed as the
artifact.

Full weights are rounded to bfloat16, as the base model's are, in the base model's names. Adapters:
DiffSynth's `load_lora` adds B A to the weights, so the factor alpha / rank is folded into B and no
alpha is stored. Their files are float32: bfloat16 would halve them, but round each factor by up to
0.4 %, and the certificate promises the trained delta within 0.1 %. Readers cast on loading anyway.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage, Manifest, job_hash
from wan_runtime.artifacts.store import Store
from wan_runtime.job import Expert, JobSpec, ManifestRef, Step, step_id
from wan_runtime.models.load import prepare
from wan_runtime.models.source import preset_of
from wan_runtime.outcome import Outcome
from wan_runtime.progress import Reporter
from wan_runtime.training import full, lora
from wan_runtime.training.card import model_card
from wan_runtime.training.certificate import Factors, certify
from wan_runtime.training.train import PICTURE, RECORD
from wan_runtime.training.weights import SafetensorsFiles, write_safetensors

SUFFIXES = {Expert.ONLY: "", Expert.HIGH_NOISE: "-high-noise", Expert.LOW_NOISE: "-low-noise"}


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


def file_name(job: JobSpec, expert: Expert, ending: str) -> str:
    """`<run>-high-noise.safetensors` for an expert of a pair, else `<run>.safetensors`."""
    return f"{job.name}{SUFFIXES[expert]}{ending}"


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Convert, certify and commit."""
    preset = preset_of(job)
    parts = []
    for expert in trained_experts(job):
        report.update(activity=f"fetching {step_id(Step.TRAIN, expert)}")
        ref = job.inputs[step_id(Step.TRAIN, expert)]
        folder = work / "trained" / expert
        parts.append(Trained(expert, ref, manifest.fetch(store, ref, folder), folder))

    prepare(preset)
    files: dict[str, Path] = {}
    worst = 0.0
    for number, part in enumerate(parts):
        report.update(activity="exporting", current=number, total=len(parts), unit="files")
        write = _write_full if job.full is not None else _write_adapter
        written, difference = write(job, part, work)
        worst = max(worst, difference)
        files |= written
        files[file_name(job, part.expert, f"-{PICTURE}")] = part.folder / PICTURE
    card = work / "README.md"
    card.write_text(
        model_card(job, preset, {part.expert: part.record() for part in parts}, list(files), worst)
    )
    files[card.name] = card

    summary: dict[str, int | float | str] = {
        "files": sum(name.endswith(".safetensors") for name in files)
    }
    if job.full is None:
        summary["rank"] = int(_record_lora(parts[0])["rank"])
    for part in parts:
        prefix = {Expert.ONLY: "", Expert.HIGH_NOISE: "highNoise.", Expert.LOW_NOISE: "lowNoise."}[
            part.expert
        ]
        summary |= {f"{prefix}{key}": value for key, value in part.manifest.summary.items()}
    ref = manifest.commit(
        store,
        job.output_prefix,
        files,
        kind="weights",
        summary=summary,
        lineage=Lineage(
            config_hash=job_hash(job),
            preset=job.model.preset,
            expert=job.expert,
            image=job.image,
            base_weights=parts[0].manifest.lineage.base_weights,
            dataset=parts[0].manifest.lineage.dataset,
            seed=parts[0].manifest.lineage.seed,
            inputs=dict(job.inputs),
        ),
    )
    names = ", ".join(name for name in files if name.endswith(".safetensors"))
    what = "weight deltas as trained" if job.full is None else "weights as trained, in bfloat16,"
    return Outcome(manifest=ref, message=f"{names}: {what} within {worst:.1e}", summary=summary)


def trained_experts(job: JobSpec) -> tuple[Expert, ...]:
    """Experts of the preset that this run trains: of a pair, it may be one."""
    experts = preset_of(job).experts
    return tuple(expert for expert in experts if step_id(Step.TRAIN, expert) in job.inputs)


def _write_adapter(job: JobSpec, part: Trained, work: Path) -> tuple[dict[str, Path], float]:
    """Certified files by name, and their largest relative difference."""
    factors = lora.delta_factors(load_file(part.folder / lora.WEIGHTS), _scale(part))
    path = work / file_name(job, part.expert, ".safetensors")
    spec = _record_lora(part)
    scale = {"rank": str(spec["rank"]), "alpha": str(spec["alpha"]), "alphaFolded": "true"}
    write_diffsynth(path, factors, {**_metadata(job, part), **scale})
    return {path.name: path}, certify(path, factors)


def _write_full(job: JobSpec, part: Trained, work: Path) -> tuple[dict[str, Path], float]:
    """As `_write_adapter`."""
    with SafetensorsFiles(full.trained_files(part.folder)) as trained:
        stem = file_name(job, part.expert, "")
        files = full.export(trained, work, stem, _metadata(job, part))
        shards = [path for name, path in files.items() if name.endswith(".safetensors")]
        return files, full.certify(shards, trained)


def write_diffsynth(path: Path, factors: Factors, metadata: dict[str, str]) -> None:
    """A file that stock `pipe.load_lora(module, path)` reads at its default strength of 1."""
    tensors = {}
    for layer, (b, a) in factors.items():
        tensors[f"{layer}.lora_A.{lora.ADAPTER}.weight"] = a
        tensors[f"{layer}.lora_B.{lora.ADAPTER}.weight"] = b
    write_safetensors(path, tensors, metadata)


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
        "preset": job.model.preset,
        "expert": part.expert,
        "run": f"{job.namespace}/{job.name}",
        "trainManifest": part.ref.sha256,
    }
