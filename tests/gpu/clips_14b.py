"""Whole clips from a service at the 14B shapes: from the request to the bytes of the mp4, by the
client's clock.

    WAN_MINIO=$(which minio) PYTHONPATH=runtime:tests python tests/gpu/clips_14b.py run \
        --profile Fast --clip fast --clip balanced --clip distilled --out rows.json

The real gateway, PostgreSQL, MinIO and workers; 1280x720 x 81 frames, 40 steps with guidance, or
the four of a distilled adapter. Weights are random, and the VAE's last layer is weak, so that the
picture is a quiet one and takes x264 about as long as a real one. The workers have warmed up, and
no clip was made before. `up` starts the service and leaves it running, `clip` has a clip made,
`down` ends it: for machines that are lent for ten minutes at a time. `model` only writes the
model's 41 GB, which takes a minute of one GPU. A row that is in the file is not taken again.
`--small` is the dry run on a CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import httpx
import torch
from safetensors.torch import save_file

from gpu import random_model
from gpu.serve_14b import (
    Client,
    adapter_of,
    alone,
    ensure_model,
    facts,
    photo,
    ready,
    running,
    spec_of,
)
from running_gateway import KEYS
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.sampling import DEFAULT_STEP_CACHE, StepCachePolicy
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.presets import PRESETS, Preset

RANK = 32
STEPS = 40
TURBO = "turbo"
CLIPS: dict[str, dict[str, Any]] = {
    **{
        each: {"quality": each, "steps": STEPS}
        for each in ("exact", "lossless", "balanced", "fast")
    },
    "distilled": {"quality": "lossless", "adapters": (TURBO,)},
    "distilled-fast": {"quality": "fast", "adapters": (TURBO,)},
}
"""Requests by the name of their row."""
UP_SECONDS = 560


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "clips-14b")
    parser.add_argument("--clip", action="append", default=[], choices=CLIPS)
    parser.add_argument("--profile", default="Lossless", help="of the service")
    parser.add_argument("--step-cache", default=DEFAULT_STEP_CACHE, metavar="POLICY",
                        choices=get_args(StepCachePolicy),
                        help="of the service; balanced obeys Spaced alone")  # fmt: skip
    parser.add_argument("--ranks", type=int, default=1, help="GPUs of a worker")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="the Tiny model, on a CPU")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    return ACTIONS[options.action](options)


def run(options: argparse.Namespace) -> int:
    """All in one command."""
    with service(options) as (http, state):
        take(http, state, options)
    return 0


def up(options: argparse.Namespace) -> int:
    """Start a process that outlives this one, and wait until its workers are ready."""
    for name in ("state.json", "down"):
        (options.work / name).unlink(missing_ok=True)
    arguments = [argument if argument != "up" else "hold" for argument in sys.argv]
    with (options.work / "hold.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + UP_SECONDS
    while not (options.work / "state.json").is_file():
        if process.poll() is not None or time.monotonic() > deadline:
            print((options.work / "hold.log").read_text()[-9000:])
            return 1
        time.sleep(0.2)
    print((options.work / "hold.log").read_text()[-2000:])
    print((options.work / "state.json").read_text(), flush=True)
    return 0


def hold(options: argparse.Namespace) -> int:
    """Keep a service until `down`."""
    with service(options) as (_, state):
        partial = options.work / "state.partial"
        partial.write_text(json.dumps(state, indent=1))
        partial.rename(options.work / "state.json")
        while not (options.work / "down").is_file():
            time.sleep(0.2)
    (options.work / "state.json").unlink()
    return 0


def clip(options: argparse.Namespace) -> int:
    """Have clips made by the service that is up: each by a worker of its own, as far as there are
    workers."""
    state = json.loads((options.work / "state.json").read_text())
    with httpx.Client(base_url=state["url"], headers=KEY, timeout=60) as http:
        take(http, state, options)
    return 0


def down(options: argparse.Namespace) -> int:
    """End the service that is up."""
    (options.work / "down").touch()
    while (options.work / "state.json").is_file():
        time.sleep(0.2)
    return 0


def model(options: argparse.Namespace) -> int:
    """Write what services load."""
    ensure_model(preset_of(options), options.work, quiet=True)
    return 0


def preset_of(options: argparse.Namespace) -> Preset:
    return PRESETS["Wan2.2-I2V-Tiny" if options.small else "Wan2.2-I2V-A14B"]


ACTIONS = {"run": run, "up": up, "hold": hold, "clip": clip, "down": down, "model": model}
KEY = {"Authorization": f"Bearer {KEYS['app']}"}


@contextmanager
def service(options: argparse.Namespace) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    """A service whose workers are ready, and how its start went."""
    preset = preset_of(options)
    with running(preset, options.work, quiet=True) as (processes, server):
        turbo = adapter_of(TURBO) | {"distilled": {"steps": 4, "shift": 5.0}}
        spec = spec_of(
            "clips", preset, options.work, server,
            profile=options.profile, defaults={"steps": STEPS}, adapters=[turbo],
            step_cache=options.step_cache, gpus=options.ranks,
        )  # fmt: skip
        alone(upload_adapter, preset, spec)
        home = processes.folder
        (home / "service.json").write_text(spec.model_dump_json(by_alias=True))
        gateway, http = processes.start(log=home / "gateway.log")
        processes.ready(gateway, http)
        start = time.monotonic()
        for number in range(options.workers):
            gpus = {} if options.workers == 1 else {"CUDA_VISIBLE_DEVICES": str(number)}
            processes.start_worker("--ranks", str(options.ranks), **gpus)
        found = ready(processes, spec)
        seconds = round(time.monotonic() - start, 1)
        state = {
            "url": str(http.base_url),
            "profile": options.profile,
            "stepCache": options.step_cache,
            "ranks": options.ranks,
            "size": str(spec.sizes[0]),
            "secondsToReady": seconds,
            "workers": [facts(each) for each in found],
        }
        print(json.dumps(state), flush=True)
        yield http, state


def take(http: httpx.Client, state: dict[str, Any], options: argparse.Namespace) -> None:
    """Have clips made, as many at once as there are workers, and add their rows to the file."""
    rows = json.loads(options.out.read_text()) if options.out.is_file() else []
    done = {(row["clip"], row["ranks"]) for row in rows}
    wanted = [each for each in options.clip if (each, state["ranks"]) not in done]
    width, height = map(int, state["size"].split("x"))
    client = Client(http, photo(width, height))

    def made(name: str) -> dict[str, Any]:
        fields = dict(CLIPS[name])
        found = client.made(*fields.pop("adapters", ()), seed=1, **fields)
        return {"clip": name, **CLIPS[name], "ranks": state["ranks"], **found}

    with ThreadPoolExecutor(len(state["workers"])) as pool:
        for each in as_completed([pool.submit(made, name) for name in wanted]):
            rows.append(each.result() | {"start": state})
            print(json.dumps(each.result()), flush=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


def upload_adapter(preset: Preset, spec: ServiceSpec) -> None:
    """In the layout of lightx2v's: factors with an alpha, differences of biases and norms."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turbo.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        for layer, (b, a) in random_model.adapter(preset, RANK, 0).items():
            key = f"diffusion_model.{layer}"
            tensors[f"{key}.lora_up.weight"] = b.bfloat16()
            tensors[f"{key}.lora_down.weight"] = a.bfloat16()
            tensors[f"{key}.alpha"] = torch.tensor(float(RANK))
            tensors[f"{key}.diff_b"] = (torch.ones(b.shape[0]) * 1e-3).bfloat16()
        for number in range(2):
            key = f"diffusion_model.blocks.{number}.norm3"
            width = next(iter(tensors.values())).shape[0]
            tensors[f"{key}.diff"] = (torch.ones(width) * 1e-3).bfloat16()
        save_file(tensors, path)
        Store.connect(spec.store).put_file(f"{TURBO}.safetensors", path)


if __name__ == "__main__":
    sys.exit(main())
