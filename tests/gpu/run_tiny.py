"""The whole pipeline on a GPU: the real steps, under the real supervisor, on real clips and MinIO.

    WAN_MINIO=$(which minio) PYTHONPATH=runtime:tests python tests/gpu/run_tiny.py --clips FOLDER

FOLDER holds metadata.csv and clips/, as `e2e/clips.py` writes them. Runs on a CPU too, without the
checks that need a GPU. Prints one line a check, writes `--out`, exits 1 if a check fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from job_files import earlier, sized
from object_store import ACCESS_KEY, BUCKET, SECRET_KEY, ObjectStore
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ExitClass, JobSpec, ManifestRef, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step, step_id
from wan_runtime.presets import PRESETS

RUNNING: list[subprocess.Popen[bytes]] = []
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 8, "alpha": 16, "learningRate": 3e-4},
    "full": {"learningRate": 1e-4},
}
FRAMES = 9
STEPS = 60
STOP_AT = 12
"""Optimizer steps before SIGTERM."""
SECONDS = 240
"""Limit of one step."""
SUPERVISE = (
    "import sys; from pathlib import Path; from wan_runtime.process import logs, supervisor; "
    "from wan_runtime.contract.steps import Step; logs.configure(sys.argv[1]); "
    "raise SystemExit(supervisor.supervise(Step(sys.argv[1]), Path(sys.argv[2]), "
    "Path(sys.argv[3]), module=sys.argv[4]))"
)


@dataclass
class Report:
    """What was checked and what came out."""

    checks: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def check(self, name: str, passed: bool, detail: object = "") -> None:
        self.checks.append({"check": name, "passed": passed, "detail": str(detail)})
        print(f"{'ok  ' if passed else 'FAIL'} {name}: {detail}", flush=True)


class Run:
    """A fine-tune: each step in processes of its own, as in its pod."""

    def __init__(
        self, server: ObjectStore, store: Store, folder: Path, preset: str, method: str = "lora"
    ) -> None:
        self.server, self.store, self.folder, self.preset = server, store, folder, PRESETS[preset]
        self.method = method
        self.inputs: dict[str, ManifestRef] = {}
        self.seconds: dict[str, float] = {}
        self._attempts = 0

    def fork(self, name: str, method: str | None = None) -> Run:
        """Another run over the same dataset and latents."""
        folder = self.folder.with_name(name)
        copy = Run(self.server, self.store, folder, self.preset.name, method or self.method)
        copy.inputs = {name: self.inputs[name] for name in ("prepare", "encode")}
        return copy

    def job(self, step: Step, expert: Expert, training: dict[str, Any]) -> JobSpec:
        return JobSpec.model_validate(
            {
                "namespace": "gpu",
                "name": self.folder.name,
                "uid": "0f9e8d7c-0000-4000-8000-000000000000",
                "step": step,
                "expert": expert,
                "model": {"preset": self.preset.name},
                "store": self.server.spec(prefix="gpu").model_dump(),
                "work": {
                    "kind": "FineTune",
                    "dataset": {
                        "source": f"s3://{BUCKET}/data",
                        "fps": self.preset.fps,
                        "buckets": [sized(self.preset.width, self.preset.height, FRAMES)],
                        "trainFraction": 0.75,
                    },
                    "training": {"steps": STEPS, "probeEvery": 20, "warmupSteps": 5, **training},
                    self.method: METHODS[self.method],
                    "sample": {"count": 1, "inferenceSteps": 8},
                },
                "inputs": earlier(self.inputs, step),
            }
        )

    def go(
        self,
        step: Step,
        expert: Expert = Expert.ONLY,
        *,
        does: str | None = None,
        stop_at: int | None = None,
        training: dict[str, Any] | None = None,
    ) -> tuple[int, Result]:
        """Exit code and Result of one attempt. `does`: see altered_step; `stop_at`: send SIGTERM
        after so many optimizer steps.
        """
        job = self.job(step, expert, training or {})
        self._attempts += 1
        work = self.folder / f"{self._attempts}-{job.step_id}"
        work.mkdir(parents=True)
        (work / "job.json").write_text(job.model_dump_json(by_alias=True))
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "WAN_TERMINATION_FILE": str(work / "termination"),
            "WAN_RUN_DIR": str(work / "run"),
            "WAN_PROGRESS_PORT": "0",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        }
        arguments: list[str] = [step, str(work / "job.json"), str(work)]
        if does is None:
            command = ["-m", "wan_runtime", step, "--job", arguments[1], "--work", arguments[2]]
        else:
            environment["WAN_GPU_TEST_DOES"] = does
            here = str(Path(__file__).parent)
            environment["PYTHONPATH"] = f"{here}:{environment['PYTHONPATH']}"
            command = ["-c", SUPERVISE, *arguments, "altered_step"]
        started = time.monotonic()
        with (work / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command], stdout=log, stderr=log, env=environment
            )
            RUNNING.append(process)
            try:
                if stop_at is not None:
                    _wait_for_step(process, work / "run" / "progress.json", stop_at)
                    process.send_signal(signal.SIGTERM)
                code = process.wait(timeout=SECONDS)
            finally:
                process.kill()
        self.seconds[f"{job.step_id}#{self._attempts}"] = taken = round(
            time.monotonic() - started, 1
        )
        print(f"     {self.folder.name} {job.step_id}: exit {code} in {taken} s", flush=True)
        result = Result.model_validate_json((work / "termination").read_bytes())
        if result.manifest is not None:
            self.inputs[job.step_id] = result.manifest
        if code not in (0, ExitClass.STOPPED) and does is None:
            print((work / "log").read_text()[-3000:], flush=True)
        return code, result

    def expect(self, step: Step, expert: Expert = Expert.ONLY, **options: Any) -> Result:
        """A step that must succeed."""
        code, result = self.go(step, expert, **options)
        assert code == 0, f"{self.folder.name} {step}: {result.reason}: {result.message}"
        return result

    def fetch(self, name: str) -> Path:
        self._attempts += 1
        folder = self.folder / f"{self._attempts}-fetched-{name}"
        manifest.fetch(self.store, self.inputs[name], folder)
        return folder

    def weights(self, name: str = "train") -> dict[str, torch.Tensor]:
        files = self.fetch(name).glob("*.safetensors")
        return {key: value for path in files for key, value in load_file(path).items()}


def _wait_for_step(process: subprocess.Popen[bytes], path: Path, step: int) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the step ended before it could be stopped"
        if path.is_file():
            progress = json.loads(path.read_text())
            if progress.get("activity") == "training" and progress.get("current", 0) >= step:
                return
        time.sleep(0.02)
    raise AssertionError(f"no step {step} within {SECONDS} s")


def pipeline(run: Run, report: Report) -> None:
    """prepare, encode, train each expert, export, sample."""
    name = f"{run.preset.name} {run.method}"
    run.expect(Step.PREPARE)
    encoded = run.expect(Step.ENCODE)
    report.check(f"{name} encode", int(encoded.summary["clips"]) == 6, encoded.message)
    for expert in run.preset.experts:
        trained = run.expect(Step.TRAIN, expert)  # the gradient guard is part of it
        first = float(trained.summary["firstProbeLoss"])
        last = float(trained.summary["lastProbeLoss"])
        what = f"{name} {step_id(Step.TRAIN, expert)}: probe loss falls, guard passes"
        report.check(what, last < 0.9 * first, trained.message)
        report.facts[f"{name} {expert} secondsPerStep"] = trained.summary["secondsPerStep"]
    exported = run.expect(Step.EXPORT)
    report.check(f"{name} export certificate", "within" in exported.message, exported.message)
    sampled = run.expect(Step.SAMPLE)
    differs = float(sampled.summary["meanDifference"])
    report.check(f"{name} sample differs from base", differs > 0.1, sampled.message)
    report.facts[f"{name} seconds"] = dict(run.seconds)


def exactness(base: Run, report: Report, *, deterministic: bool) -> None:
    """Twice uninterrupted, once stopped by SIGTERM and resumed: which bits are the same?"""
    label = f"{base.method}, {'deterministic' if deterministic else 'by default'}"
    prefix = f"{base.folder.name}-{'deterministic' if deterministic else 'plain'}"
    # Interrupted while it runs for long enough to be caught.
    training = {"steps": 400, "probeEvery": 1000, "deterministic": deterministic}
    whole, again, broken = (base.fork(f"{prefix}-{part}") for part in ("whole", "again", "broken"))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(whole.expect, Step.TRAIN, training=training)
        second = pool.submit(again.expect, Step.TRAIN, training=training)
        stopped = pool.submit(broken.go, Step.TRAIN, stop_at=STOP_AT, training=training)
        code, result = stopped.result()
        report.check(
            f"SIGTERM ({label}) leaves a checkpoint, class 40",
            code == ExitClass.STOPPED and result.reason is Reason.TERMINATED,
            f"{code} {result.reason}: {result.message}",
        )
        broken.expect(Step.TRAIN, training=training)
        first.result(), second.result()
    weights = whole.weights()
    repeatable = distance(weights, again.weights())
    resumed = distance(weights, broken.weights())
    report.facts[f"{label}: two uninterrupted runs differ by"] = repeatable
    report.facts[f"{label}: resumed run differs by"] = resumed
    detail = f"relative difference: two uninterrupted runs {repeatable:.3g}, resumed {resumed:.3g}"
    if deterministic or not torch.cuda.is_available():
        report.check(f"resume ({label}) is exact to the bit", repeatable == resumed == 0, detail)
    else:
        # A GPU may add in the order in which its blocks finish, so no run is repeatable.
        # A weak check: a resume that lost little would pass.
        close = resumed <= 2 * repeatable
        report.check(f"resume ({label}) differs at most twice as two runs do", close, detail)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest relative difference of a tensor; 0 only if all are the same bits."""
    if all(torch.equal(a[name], b[name]) for name in a):
        return 0.0
    return max(float((a[name] - b[name]).norm() / a[name].norm()) for name in a)


def failures(base: Run, report: Report) -> None:
    """What a GPU can do to a step, and the class that the operator sees."""
    expected = {
        "too_large": (ExitClass.OUT_OF_MEMORY, Reason.GPU_OUT_OF_MEMORY, {}),
        "little_memory": (
            ExitClass.OUT_OF_MEMORY,
            Reason.GPU_OUT_OF_MEMORY,
            {"batchSize": 64, "gradientCheckpointing": "None"},
        ),
        "no_backward": (ExitClass.NUMERICAL, Reason.DEAD_GRADIENTS, {}),
    }
    for does, (exit_class, reason, training) in expected.items():
        if does != "no_backward" and not torch.cuda.is_available():
            continue
        run = base.fork(f"{base.folder.name}-{does}")
        code, result = run.go(Step.TRAIN, does=does, training=training)
        report.check(
            f"{does} ends as {int(exit_class)} {reason}",
            code == exit_class and result.reason is reason,
            f"{code} {result.reason}: {result.message[:200]}",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--only",
        choices=("pipelines", "exactness", "full"),
        help="the checks of one kind, and what they need",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    report = Report()
    cuda = torch.cuda.is_available()
    report.facts |= {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "torch": torch.__version__,
        "clips": _digest(options.clips),
    }
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with tempfile.TemporaryDirectory() as name, ObjectStore(Path(name) / "minio") as server:
        store = Store.connect(server.spec(prefix="gpu"))
        for path in sorted(options.clips.rglob("*.*")):
            store.put_file(f"data/{path.relative_to(options.clips)}", path)
        runs = [
            Run(server, store, Path(name) / "wan21", "Wan2.1-I2V-Tiny"),
            Run(server, store, Path(name) / "wan22", "Wan2.2-I2V-Tiny"),
        ]
        if options.only == "full":
            with ThreadPoolExecutor(2) as pool:
                runs = [Run(server, store, run.folder, run.preset.name, "full") for run in runs]
                for future in [pool.submit(pipeline, run, report) for run in runs]:
                    _guarded(report, future.result)
        elif options.only == "exactness":
            for step in (Step.PREPARE, Step.ENCODE):
                runs[0].expect(step)
        else:
            with ThreadPoolExecutor(2) as pool:
                for future in [pool.submit(pipeline, run, report) for run in runs]:
                    _guarded(report, future.result)
            _guarded(report, lambda: failures(runs[0], report))
        if options.only != "pipelines":
            for exact in (True, False):
                _guarded(
                    report,
                    lambda exact=exact: exactness(runs[0], report, deterministic=exact),
                )
    failed = [check["check"] for check in report.checks if not check["passed"]]
    if options.out:
        options.out.write_text(
            json.dumps({"checks": report.checks, "facts": report.facts}, indent=1)
        )
    print(json.dumps(report.facts, indent=1))
    print(f"{len(report.checks) - len(failed)} of {len(report.checks)} checks pass", failed)
    return 1 if failed else 0


def _end(signum: int, frame: object) -> None:
    """Leave nothing on the GPU: killed with its supervisor, a step does not wait for the store."""
    for process in RUNNING:
        process.kill()
    raise SystemExit(128 + signum)


def _guarded(report: Report, action: Any) -> None:
    """One broken part must not cost the rest of a lent machine's time."""
    try:
        action()
    except Exception as error:  # whatever it is, it is a failed check
        traceback.print_exc()
        report.check("ran to its end", False, f"{type(error).__name__}: {error}")


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
