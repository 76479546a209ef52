"""`examples/compare-four.yaml` by its steps alone, without a cluster, for several seeds.

    PYTHONPATH=operator:runtime:tests:e2e python tests/compare_four.py --seeds 5

Job files are the operator's own; clips and latents are shared, all else is made anew for each seed
of the trainings and videos. A line of JSON for each: the verdict, the candidates' numbers, and the
verdict on the candidate of the noise floor beside its own renders with other seeds, which are no
better and no worse. Takes about five minutes of CPU time a seed; needs MinIO, as the tests do.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml

from object_store import ACCESS_KEY, BUCKET, SECRET_KEY, ObjectStore
from pans import write_pans
from wan_operator.api.v1alpha1.common import Artifact, Store
from wan_operator.api.v1alpha1.evaluation import WanEvaluationSpec
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate, EffectiveEvaluation
from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec
from wan_operator.reconcile.evaluation.work import evaluation_work
from wan_operator.reconcile.finetune.plan import FineTuneStep, plan_steps, resolve
from wan_operator.reconcile.finetune.work import job_spec
from wan_operator.reconcile.store import resolve_store
from wan_operator.resources.labels import Owner
from wan_operator.settings import Settings
from wan_runtime.artifacts import documents
from wan_runtime.artifacts.store import Store as Bucket
from wan_runtime.contract.evaluation import EvaluationWork
from wan_runtime.contract.job import JobSpec, ManifestRef, ModelSpec
from wan_runtime.contract.steps import FACTS, Step
from wan_runtime.evaluation.evidence import evidence_of, scoring_of
from wan_runtime.evaluation.records import EVALUATION
from wan_runtime.evaluation.result import EvaluationResult
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.process.progress import Reporter

EXAMPLE = Path(__file__).parents[1] / "examples" / "compare-four.yaml"
UID = "0f9e8d7c-0000-4000-8000-000000000000"
SHARED = (Step.PREPARE, Step.ENCODE)
Inputs = dict[str, ManifestRef]


class Comparison:
    """The runs of the example and its evaluation, one step after another in this process."""

    def __init__(self, server: ObjectStore, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.bucket = Bucket.connect(server.spec())
        self.settings = Settings(
            operator_image="none",
            runtime_image="none",
            namespace="none",
            store_endpoint=server.endpoint,
            store_bucket=BUCKET,
            store_secret="none",
            identity="none",
        )
        self.shared: dict[tuple[str, str], ManifestRef] = {}

    def upload(self, source: str) -> None:
        write_pans(self.folder / "pans")
        for path in (self.folder / "pans").rglob("*.*"):
            name = path.relative_to(self.folder / "pans")
            self.bucket.put_file(f"{source.removeprefix(f's3://{BUCKET}/')}/{name}", path)

    def step(self, job: JobSpec) -> ManifestRef:
        """What a step commits."""
        with TemporaryDirectory(dir=self.folder) as work:
            run = importlib.import_module(FACTS[job.step].module).run
            made: ManifestRef = run(job, self.bucket, Path(work), Reporter(job.step_id)).manifest
        return made

    def finetune(self, name: str, spec: WanFineTuneSpec) -> Inputs:
        """What the steps of a run commit, by step."""
        made: Inputs = {}
        for planned in plan_steps(spec):
            # Alike for all that read the same clips by the same encoders.
            key = (planned.id, "" if planned.step is Step.PREPARE else spec.model.preset)
            if planned.step not in SHARED:
                made[planned.id] = self.step(self.job(name, spec, planned, made))
                continue
            if key not in self.shared:
                self.shared[key] = self.step(self.job(name, spec, planned, made))
            made[planned.id] = self.shared[key]
        return made

    def job(self, name: str, spec: WanFineTuneSpec, planned: FineTuneStep, made: Inputs) -> JobSpec:
        owner = Owner(kind="WanFineTune", label="", namespace="four", name=name, uid=UID)
        inputs = {id: ref for id, ref in made.items() if id in planned.needs}
        effective = resolve(owner, spec, self.settings, None)
        return job_spec(owner, spec, effective, planned, inputs, with_ca=False)

    def evaluate(
        self, name: str, spec: WanEvaluationSpec, runs: dict[str, tuple[str, Inputs]]
    ) -> EvaluationResult:
        """`runs`: preset and results of each fine-tune."""
        clips = next(iter(runs.values()))[1]["prepare"]
        candidates = {each.name: each.fine_tune_ref for each in spec.candidates}
        named = {name: runs[ref.name] for name, ref in candidates.items() if ref is not None}
        effective = EffectiveEvaluation(
            store=resolve_store(Store(), self.settings),
            image="none",
            run_prefix=f"s3://{BUCKET}/{name}",
            width=128,
            height=96,
            frames=9,
            fps=16,
            clips=artifact(clips),
            candidates=[
                EffectiveCandidate(name=each, preset=preset, weights=artifact(made["export"]))
                for each, (preset, made) in named.items()
            ],
        )
        work = evaluation_work(spec, effective, "four")
        made: Inputs = {}

        def go(step: Step, candidate: str | None = None) -> ManifestRef:
            model = None if candidate is None else ModelSpec(preset=named[candidate][0])
            return self.step(self.judging(name, work, step, candidate, model, made))

        made["collect"] = go(Step.COLLECT)
        made |= {f"generate-{each}": go(Step.GENERATE, each) for each in named}
        made["score"] = go(Step.SCORE)
        return documents.read(self.bucket, go(Step.COMPARE), EVALUATION, EvaluationResult)

    def judging(
        self,
        name: str,
        work: EvaluationWork,
        step: Step,
        candidate: str | None,
        model: ModelSpec | None,
        made: Inputs,
    ) -> JobSpec:
        return JobSpec(
            namespace="four",
            name=name,
            uid=UID,
            step=step,
            candidate=candidate,
            model=model,
            store=self.server.spec(),
            work=work,
            inputs=dict(made),
        )


def artifact(ref: ManifestRef) -> Artifact:
    return Artifact(uri=ref.uri, sha256=ref.sha256)


def row_of(seed: int, result: EvaluationResult) -> dict[str, Any]:
    verdict = result.verdict
    return {
        "seed": seed,
        "decision": verdict.decision,
        "winner": verdict.winner,
        "message": verdict.message,
        "candidates": {
            each.candidate: {
                metric.metric: round(metric.estimate.value, 4)
                for metric in each.metrics
                if metric.estimate is not None
            }
            | {"total": each.total and round(each.total.value, 4)}
            for each in result.decision.candidates
        },
        "itself": beside_itself(result),
    }


def beside_itself(result: EvaluationResult) -> str:
    """Outcome of a comparison between a candidate and its own renders with other seeds."""
    work = result.work
    evidence = evidence_of(work, result.clips, result.videos, result.scores.measured, None)
    name, again = work.noise_floor, f"{work.noise_floor}-again"
    assert name is not None
    scores = tuple(
        each.model_copy(update={"candidate": again, "render": ""}) if each.render else each
        for each in evidence.scores
        if each.candidate == name
    )
    pair = {"candidates": (name, again), "scores": scores, "costs": (), "exclusions": ()}
    return decide(
        evidence.model_copy(update=pair), scoring_of(work, result.deciding)
    ).quality.outcome


@contextmanager
def comparison() -> Iterator[Comparison]:
    with TemporaryDirectory() as folder, ObjectStore(Path(folder) / "store") as server:
        yield Comparison(server, Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of each training, for the example's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = ACCESS_KEY, SECRET_KEY
    wanted = [*yaml.safe_load_all(EXAMPLE.read_text())]
    tunes = {each["metadata"]["name"]: each["spec"] for each in wanted if "method" in each["spec"]}
    [judged] = [each["spec"] for each in wanted if each["kind"] == "WanEvaluation"]
    judged["metrics"] = ["psnr", "ssim"]
    with comparison() as runs:
        runs.upload(next(iter(tunes.values()))["dataset"]["source"])
        for seed in range(options.seeds):
            made: dict[str, tuple[str, Inputs]] = {}
            for name, content in tunes.items():
                steps = options.steps or content["training"]["steps"]
                training = {**content["training"], "steps": steps, "seed": seed}
                tune = WanFineTuneSpec.model_validate({**content, "training": training})
                made[name] = tune.model.preset, runs.finetune(f"{name}-{seed}", tune)
            spec = WanEvaluationSpec.model_validate({**judged, "seed": 1000 * seed})
            print(json.dumps(row_of(seed, runs.evaluate(f"seed-{seed}", spec, made))), flush=True)


if __name__ == "__main__":
    main()
