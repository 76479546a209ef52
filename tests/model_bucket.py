"""A base model in a bucket, for tests of its import and of what pods fetch of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from job_files import make_job
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.steps import Step
from wan_runtime.models import importer, layout
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.source import base_model
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter


class Bucket:
    """A base model as users upload it, below a prefix of its own."""

    def __init__(self, store: Store, name: str, preset: str, work: Path) -> None:
        self.store, self.name, self.preset, self.work = store, name, preset, work
        self.volume: Path | None = None
        """The model is in this folder instead."""
        self.attempts = 0

    def upload(self, files: ModelFiles) -> None:
        for path in sorted(files.folder.rglob("*")):
            if path.is_file():
                self.put(path, path.relative_to(files.folder).as_posix())

    def put(self, path: Path, name: str) -> None:
        self.store.put_bytes(f"{self.name}/{name}", path.read_bytes())

    def job(self, step: Step = Step.IMPORT, **change: Any) -> JobSpec:
        source = {"source": f"s3://{self.store.bucket}/{self.name}"}
        where = source if self.volume is None else {"path": str(self.volume)}
        return make_job(
            step=step,
            model={"preset": self.preset, **where},
            store={"endpoint": "http://127.0.0.1:1", "bucket": "wan", "prefix": f"p/{self.name}"},
            **change,
        )

    def go(self) -> Outcome:
        """As a fresh pod would."""
        self.attempts += 1
        work = self.work / f"import-{self.attempts}"
        return importer.run(self.job(), self.store, work, Reporter("import", terminal=False))

    def model(
        self, ref: ManifestRef, work: str = "pod", step: Step = Step.SAMPLE, **change: Any
    ) -> ModelFiles:
        """What a later step finds; `sample` loads all there is."""
        job = self.job(step, inputs={"import": ref.model_dump()}, **change)
        return base_model(job, self.store, self.work / work)


def pickle_encoders(files: ModelFiles, folder: Path) -> ModelFiles:
    """The model with its encoders and VAE as `.pth`, as they are released."""
    shutil.copytree(files.folder, folder)
    for path in folder.glob("*.safetensors"):
        if not path.name.startswith("diffusion"):
            torch.save(load_file(path), path.with_suffix(".pth"))
            path.unlink()
    return layout.locate(files.preset, folder)
