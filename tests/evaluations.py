"""Whole evaluations of small clips, step by step."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job_files import sized
from moving import FRAMES, HEIGHT, WIDTH, moving_picture
from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.job import JobSpec, ManifestRef, StoreSpec
from wan_runtime.contract.steps import FACTS, Step
from wan_runtime.evaluation.records import (
    CLIPS,
    EVALUATION,
    VIDEOS,
    TestClip,
    TestClips,
    Video,
    Videos,
)
from wan_runtime.evaluation.result import EvaluationResult
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.rendering.media import write_mp4

Pictures = NDArray[np.uint8]


class Evaluation:
    """One evaluation in a store prefix of its own. Each step's result becomes the input of later
    ones."""

    def __init__(self, store: Store, spec: StoreSpec, folder: Path, name: str) -> None:
        self.store, self.spec, self.folder, self.name = store, spec, folder, name
        self.work: dict[str, Any] = {
            "clips": {"dataset": self.dataset()},
            "metrics": ["psnr", "ssim"],
        }
        self.candidates: list[dict[str, Any]] = []
        self.inputs: dict[str, ManifestRef] = {}
        self.fields: dict[str, Any] = {}
        self.attempts = 0

    def dataset(self, **change: Any) -> dict[str, Any]:
        """The dataset of `upload`."""
        source = f"s3://{self.store.bucket}/{self.name}/data"
        return {"source": source, "buckets": [sized(WIDTH, HEIGHT, FRAMES)], "fps": 16, **change}

    def upload(self, clips: Mapping[str, Pictures], recordings: Sequence[str] = ()) -> None:
        """Clips by path, each of a recording of its own unless `recordings` names them."""
        rows = ["video,prompt,source"]
        for number, (path, frames) in enumerate(clips.items()):
            self.put(f"data/{path}", frames)
            recording = recordings[number] if recordings else f"recording{number}"
            rows.append(f"{path},a drifting picture {number},{recording}")
        self.store.put_bytes(f"{self.name}/data/metadata.csv", "\n".join(rows).encode())

    def upload_few(self, count: int = 2) -> None:
        """Clips of three frames more than are compared."""
        self.upload({f"clip{n}.mp4": moving_picture(n, FRAMES + 3) for n in range(count)})

    def put(self, path: str, frames: Pictures, fps: float = 16) -> str:
        """A video below the evaluation's name. Returns its address."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "video.mp4"
        write_mp4(frames, file, fps)
        self.store.put_file(f"{self.name}/{path}", file)
        return f"s3://{self.store.bucket}/{self.name}/{path}"

    def add(self, name: str, **source: Any) -> str:
        """A candidate; its videos are in a folder of its name unless `source` says otherwise."""
        address = f"s3://{self.store.bucket}/{self.name}/{name}"
        self.candidates.append({"name": name, **(source or {"videos": address})})
        return address

    def job(self, step: Step, **change: Any) -> JobSpec:
        """`change`: top-level fields; `work` is merged."""
        candidates = self.candidates or [{"name": "any", "videos": "s3://wan/any"}]
        work = {"kind": "Evaluation", "candidates": candidates, **self.work}
        return JobSpec.model_validate(
            {
                "namespace": "team-a",
                "name": self.name,
                "uid": manifest.digest(self.name.encode())[:36],
                "step": step,
                "store": self.spec.model_dump(),
                "work": {**work, **change.pop("work", {})},
                "inputs": {name: ref.model_dump() for name, ref in self.inputs.items()},
                **self.fields,
                **change,
            }
        )

    def go(self, step: Step, *, report: Reporter | None = None, **change: Any) -> Outcome:
        """Run one step in a fresh work folder, as a fresh pod would."""
        job = self.job(step, **change)
        self.attempts += 1
        work = self.folder / f"{self.attempts}-{job.step_id}"
        work.mkdir(parents=True)
        run = importlib.import_module(FACTS[step].module).run
        outcome: Outcome = run(job, self.store, work, report or Reporter(job.step_id))
        self.inputs[job.step_id] = outcome.manifest
        return outcome

    def put_document(self, step: str, name: str, content: Contract) -> None:
        """What a step would have committed, in its place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = documents.written(content, self.folder / name)
        self.inputs[step] = manifest.commit(
            self.store,
            f"{self.name}/{step}",
            {name: path},
            kind="test",
            lineage=manifest.Lineage(config_hash="0" * 64, preset=""),
            summary={},
        )

    def result(self) -> EvaluationResult:
        """What the last comparison found."""
        return documents.read(self.store, self.inputs["compare"], EVALUATION, EvaluationResult)

    def clips(self) -> tuple[TestClip, ...]:
        """What was collected."""
        return documents.read(self.store, self.inputs["collect"], CLIPS, TestClips).clips

    def generate(self, name: str, **change: Any) -> tuple[Video, ...]:
        """Videos of a candidate."""
        ref = self.go(Step.GENERATE, candidate=name, **change).manifest
        return documents.read(self.store, ref, VIDEOS, Videos).videos
