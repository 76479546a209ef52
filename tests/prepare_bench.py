"""A dataset in the store, and the step `prepare` run on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from job_files import make_job
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import JobSpec
from wan_runtime.data import prepare
from wan_runtime.data.dataset import Dataset, load_dataset
from wan_runtime.errors import InputError
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter

Row = dict[str, Any]


class Bench:
    """A dataset in the store, and the step run on it."""

    def __init__(self, store: Store, work: Path, name: str) -> None:
        self.store = store
        self.work = work
        self.name = name
        self.prefix = f"datasets/{name}"
        self.training: dict[str, Any] = {}
        self.job = self.make()

    def make(self, **dataset: Any) -> JobSpec:
        return make_job(
            uid=manifest.digest(self.name.encode())[:36],
            dataset={"source": f"s3://wan/{self.prefix}/", **dataset},
            training=self.training,
        )

    def put(
        self, clips: dict[str, bytes], rows: Iterable[Row], name: str = "metadata.json"
    ) -> None:
        for path, data in clips.items():
            self.store.put_bytes(f"{self.prefix}/{path}", data)
        self.store.put_bytes(f"{self.prefix}/{name}", json.dumps(list(rows)).encode())

    def run(self, **dataset: Any) -> Outcome:
        self.job = self.make(**dataset)
        report = Reporter("prepare", terminal=False)
        outcome = prepare.run(self.job, self.store, self.work, report)
        assert report.progress.current == report.progress.total > 0
        return outcome

    def fail(self, **dataset: Any) -> InputError:
        with pytest.raises(InputError) as caught:
            self.run(**dataset)
        assert manifest.find(self.store, self.job.output_prefix) is None
        return caught.value

    def dataset(self, outcome: Outcome) -> Dataset:
        return load_dataset(self.store, outcome.manifest)

    def report(self) -> Dataset:
        data = self.store.get_bytes(f"{self.job.output_prefix}/report.json")
        return Dataset.model_validate_json(data)
