"""Whole fine-tuning runs on the tiny models, step by step, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job_files import earlier, make_job, sized
from moving import FRAMES, HEIGHT, WIDTH, moving_picture
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.data import cache, prepare
from wan_runtime.presets import PRESETS
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.rendering.media import write_mp4
from wan_runtime.training import export, sample, train

CLIPS = 4
STEPS: dict[Step, ModuleType] = {
    Step.PREPARE: prepare,
    Step.ENCODE: cache,
    Step.TRAIN: train,
    Step.EXPORT: export,
    Step.SAMPLE: sample,
}
TRAINING = {"steps": 4, "probeEvery": 10, "checkpointEvery": 100, "warmupSteps": 2}
LORA = {"rank": 4, "alpha": 8, "learningRate": 3e-3}
METHODS: dict[str, dict[str, Any]] = {"lora": LORA, "full": {"learningRate": 3e-4}}
FORMATS = {"lora": list(Dialect), "full": ["DiffSynth"]}


class Run:
    """One run in a store prefix of its own. Each step's result becomes the input of later ones."""

    def __init__(
        self, store: Store, spec: Any, folder: Path, preset: str, method: str = "lora"
    ) -> None:
        self.store, self.spec, self.folder, self.preset = store, spec, folder, PRESETS[preset]
        self.method = method
        self.dataset: dict[str, Any] = {}
        self.inputs: dict[str, ManifestRef] = {}
        self.attempts = 0

    def job(self, step: Step, expert: Expert = Expert.ONLY, **change: Any) -> JobSpec:
        """`change`: top-level fields; `training` and the method's merged into small defaults."""
        method = {**METHODS[self.method], **change.pop(self.method, {})}
        return make_job(
            name=self.folder.name,
            step=step,
            expert=expert,
            model=change.pop("model", {"preset": self.preset.name}),
            store=self.spec.model_dump(),
            dataset={
                "source": f"s3://{self.store.bucket}/{self.folder.name}/data",
                "buckets": [sized(WIDTH, HEIGHT, FRAMES)],
                "trainFraction": 0.75,
                **self.dataset,
            },
            training={**TRAINING, **change.pop("training", {})},
            **{self.method: method},
            formats=change.pop("formats", FORMATS[self.method]),
            sample=change.pop("sample", {"count": 1, "inferenceSteps": 4}),
            inputs=earlier(self.inputs, step, whole="shard" not in change),
            **change,
        )

    def go(
        self,
        step: Step,
        expert: Expert = Expert.ONLY,
        *,
        report: Reporter | None = None,
        **change: Any,
    ) -> Outcome:
        """Run one step in a fresh work folder, as a fresh pod would."""
        job = self.job(step, expert, **change)
        self.attempts += 1
        work = self.folder / f"{self.attempts}-{job.step_id}"
        work.mkdir(parents=True)
        outcome: Outcome = STEPS[step].run(job, self.store, work, report or Reporter(job.step_id))
        self.inputs[job.step_id] = outcome.manifest
        return outcome

    def fork(self, name: str, method: str | None = None) -> Run:
        """A run of another name that shares this one's dataset and latents."""
        folder = self.folder.with_name(name)
        copy = Run(self.store, self.spec, folder, self.preset.name, method or self.method)
        copy.dataset = self.dataset
        copy.inputs = {
            step: ref for step, ref in self.inputs.items() if step in ("prepare", "encode")
        }
        return copy

    def upload_clips(self, length: int = FRAMES + 3) -> None:
        """Four clips of `length` frames, of four recordings, and their metadata."""
        self.upload([moving_picture(number, length) for number in range(CLIPS)])

    def upload(self, clips: Iterable[NDArray[np.uint8]]) -> None:
        """Each is of a recording of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = ["video,prompt,source"]
        for number, frames in enumerate(clips):
            path = self.folder / f"clip{number}.mp4"
            write_mp4(frames, path, 16)
            self.store.put_file(f"{self.folder.name}/data/{path.name}", path)
            rows.append(f"{path.name},a drifting picture {number},recording{number}")
        self.store.put_bytes(f"{self.folder.name}/data/metadata.csv", "\n".join(rows).encode())

    def fetch(self, name: str) -> Path:
        """Folder with the files of a finished step."""
        self.attempts += 1
        folder = self.folder / f"{self.attempts}-fetched-{name}"
        manifest.fetch(self.store, self.inputs[name], folder)
        return folder
