"""Do training steps on a GPU repeat to the bit, resumed ones too, and what does that cost?

    CUBLAS_WORKSPACE_CONFIG=:4096:8 PYTHONPATH=runtime:tests \\
        python tests/gpu/repeat_steps.py --out rows.json

The real `Trainer` on the tiny transformer and on blocks of the 14B width, with PyTorch's default
kernels and with `training.deterministic`. Three runs of one job: two undisturbed, one
that goes on from its checkpoint in a fresh trainer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from gpu.synthetic import LORA, Synthetic, build
from wan_runtime.models import tiny
from wan_runtime.models.load import compute_device
from wan_runtime.models.shapes import DIT21
from wan_runtime.presets import PRESETS
from wan_runtime.training import checkpoint
from wan_runtime.training.trainer import Trainer

TINY_LORA = {"lora": {"rank": 8, "alpha": 16, "learningRate": 3e-3}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--layers", type=int, default=2, help="blocks of the 14B width; 0: none")
    options = parser.parse_args()
    device = compute_device()
    tiny.register()
    shapes: list[tuple[str, str, dict[str, Any], dict[str, Any], int, int]] = [
        ("tiny", "Wan2.1-I2V-Tiny", tiny.DIT21, TINY_LORA, 9, 200)
    ]
    if options.layers:
        wide = {**DIT21, "num_layers": options.layers}
        shapes.append((f"{options.layers} blocks", "Wan2.1-I2V-14B-720P", wide, LORA, 25, 6))
    rows = []
    for name, preset, config, method, frames, steps in shapes:
        for deterministic in (False, True):

            def fresh(
                preset: str = preset, config: Any = config, method: Any = method, n: int = frames,
                exact: bool = deterministic,
            ) -> Trainer:  # fmt: skip
                trainer, cache = build(PRESETS[preset], config, device, method, deterministic=exact)
                assert isinstance(cache, Synthetic)
                cache.frames = n
                return trainer

            row = {"shape": name, "deterministic": deterministic, **repeat(fresh, steps)}
            print(json.dumps(row), flush=True)
            rows.append(row)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


def repeat(fresh: Any, steps: int) -> dict[str, Any]:
    """Distances of the trained weights, and the median seconds of a step."""
    whole, again = go(fresh(), steps), go(fresh(), steps)
    broken = go(fresh(), steps // 2)
    resumed = fresh()
    with tempfile.TemporaryDirectory() as folder:
        pieces = list(checkpoint._write(broken.state, Path(folder)))
        checkpoint._read(resumed.state, iter([path for _, path in pieces]))
    go(resumed, steps)
    taken = [step["seconds"] for step in whole.state.history["steps"][1:]]
    return {
        "steps": steps,
        "twoRunsDifferBy": distance(whole, again),
        "resumedDiffersBy": distance(whole, resumed),
        "secondsPerStep": statistics.median(taken),
    }


def go(trainer: Trainer, until: int) -> Trainer:
    while trainer.state.step < until:
        trainer.step()
    return trainer


def distance(a: Trainer, b: Trainer) -> float:
    """Largest relative difference of a tensor; 0 only if all are the same bits."""
    pairs = [(one, b.state.trainable[name]) for name, one in a.state.trainable.items()]
    if all(torch.equal(*pair) for pair in pairs):
        return 0.0
    return max(float((a - b).detach().norm() / a.detach().norm()) for a, b in pairs)


if __name__ == "__main__":
    main()
