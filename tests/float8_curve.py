"""Losses of a LoRA over base weights in FP8 beside bfloat16's, on the trained Tiny models.

    PYTHONPATH=operator:runtime:tests python tests/float8_curve.py

Equal runs but for `basePrecision`, and one more in which only the seed differs: how far chance
alone moves the loss of the held-out probes. Needs MinIO, as the tests do.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ml_runs import Run
from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.steps import Expert, Step

RUNS: dict[str, dict[str, Any]] = {
    "BF16": {},
    "FP8": {"basePrecision": "FP8"},
    "BF16, seed 1": {"seed": 1},
}
PRESETS = {
    "Wan2.1-I2V-Tiny": Expert.ONLY,
    "Wan2.2-I2V-Tiny": Expert.LOW_NOISE,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--preset", choices=PRESETS, action="append")
    parser.add_argument("--every", type=int, default=50, help="steps between probes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = ACCESS_KEY, SECRET_KEY
    with TemporaryDirectory() as folder, ObjectStore(Path(folder) / "store") as server:
        store = Store.connect(server.spec(prefix="ml"))
        for preset in options.preset or PRESETS:
            base = Run(store, server.spec(prefix="ml"), Path(folder) / preset.lower(), preset)
            base.upload_clips()
            base.go(Step.PREPARE)
            base.go(Step.ENCODE)
            for number, (name, change) in enumerate(RUNS.items()):
                run = base.fork(f"curve-{number}")
                training = {"steps": options.steps, "probeEvery": options.every, **change}
                run.go(Step.TRAIN, PRESETS[preset], training=training)
                step = next(iter(set(run.inputs) - {"prepare", "encode"}))
                record = json.loads((run.fetch(step) / "training.json").read_text())
                probes = {each["step"]: each["losses"]["mean"] for each in record["probes"]}
                row = {"preset": preset, "run": name, "probes": probes}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
