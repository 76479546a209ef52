"""Train the tiny transformers with the runtime's own steps: prepare, encode, train (method full).

Called by make.py. The store is a folder, and one pool of processes shares the work: rows to check,
parts of the encode step, and in the end each expert trains in a process of its own.
"""

from __future__ import annotations

import csv
import math
import multiprocessing
import random
import shutil
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.pipelines.wan_video import WanVideoUnit_ImageEmbedderVAE
from safetensors.torch import save_file
from torch import Tensor, nn

from tiny_models.clip_files import HELD_OUT, write
from tiny_models.folder_store import BUCKET, FolderStore
from tiny_models.start import dit_state
from tiny_models.train_vae import read
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.earlier import FINE_TUNE
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.steps import Expert, Shard, Step, step_id
from wan_runtime.data import cache, prepare, review
from wan_runtime.data.captions import caption_counter
from wan_runtime.data.checker import Checked, Checker
from wan_runtime.data.formats.rows import Listing, Row
from wan_runtime.data.latents import Entry, LocalCache, load_latents
from wan_runtime.data.source import StoreSource
from wan_runtime.errors import NumericalError
from wan_runtime.models import tiny
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.load import compute_device
from wan_runtime.presets import NEGATIVE_PROMPT, PRESETS, Preset
from wan_runtime.process.progress import Reporter
from wan_runtime.training import train, update
from wan_runtime.training import trainer as loop
from wan_runtime.training.full import Full

HEIGHT, WIDTH = 120, 160
WINDOWS = 2
"""Of a clip: its first and its last frames."""
UNGUIDED = 0.12
"""Share of clips whose caption is the sampler's negative prompt: what guidance leads away from."""
RATE, BATCH, WARM_SECONDS = 1.2e-3, 64, 8.0
SEEDED = ("img_emb.proj.1.weight", "img_emb.proj.1.bias")
"""Not trained, so not shipped: a random projection serves, and it is half the model."""
UNLIMITED = 10**7
"""Steps: the clock ends the training."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a preset is made."""

    root: Path
    preset: str

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.root / "store")

    @property
    def model(self) -> Path:
        return self.root / "model" / self.preset

    def job(self, name: str, step: Step, inputs: dict[str, ManifestRef], **change: Any) -> JobSpec:
        """`change`: fields of the job, and of its work."""
        work = {field: change.pop(field) for field in FINE_TUNE if field in change}
        preset = PRESETS[self.preset]
        return JobSpec.model_validate(
            {
                "namespace": self.preset.lower(),
                "name": name,
                "uid": "00000000-0000-4000-8000-000000000000",
                "step": step,
                "model": {"preset": self.preset, "path": str(self.model)},
                "store": {"endpoint": "http://folder", "bucket": BUCKET, "prefix": "tiny"},
                "work": {
                    "kind": "FineTune",
                    "dataset": {
                        "source": f"s3://{BUCKET}/clips",
                        "buckets": [
                            {
                                "width": preset.width,
                                "height": preset.height,
                                "frames": preset.frames,
                            }
                        ],
                        "fps": preset.fps,
                        "window": "Spread",
                        "windowsPerClip": WINDOWS,
                        "trainFraction": 0.97,
                        "rejectedClips": "Skip",
                    },
                    "full": {"learningRate": RATE},
                    **work,
                },
                "inputs": {key: ref.model_dump() for key, ref in inputs.items()},
                **change,
            }
        )

    def work(self, job: JobSpec) -> Path:
        return self.root / "work" / self.preset / job.name / job.step_id


def write_model(preset: Preset, folder: Path, weights: Path) -> None:
    """The preset's files, with what is trained already; other transformers at their start."""
    trained = folder.with_name(f"{folder.name}-trained")
    trained.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights / tiny.VAE_FILE, trained)
    config = tiny.DIT21 if preset.uses_clip else tiny.DIT22
    for expert in preset.experts:
        name = tiny.dit_file(preset, expert)
        if (weights / name).is_file():
            shutil.copy(weights / name, trained)
        else:
            save_file(dit_state(WanModel(**config), f"dit-{expert}", config), trained / name)
    tiny.write(preset, folder, trained)


def fill_store(
    clips: Path, store: FolderStore, pool: ProcessPoolExecutor, parts: int, scale: float = 1.0
) -> int:
    """All clips that are not held out, as they are and mirrored, with their captions."""
    with (clips / "metadata.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["source"] not in HELD_OUT]
    rows = rows[:: max(1, round(1 / scale))]
    shares = [rows[number::parts] for number in range(parts)]
    done = pool.map(_fill, [clips] * parts, shares, [store] * parts)
    path = store.path("clips/metadata.csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(("video", "prompt", "source"))
        table = [row for part in done for row in part]
        out.writerows(table)
    return len(table)


def _fill(
    clips: Path, rows: list[dict[str, str]], store: FolderStore
) -> list[tuple[str, str, str]]:
    table = []
    for row in rows:
        draw = random.Random(row["video"])
        stem, source = Path(row["video"]).stem, row["source"]
        shutil.copyfile(clips / row["video"], store.path(f"clips/{stem}.mp4"))
        (video,) = read([clips / row["video"]], HEIGHT, WIDTH)
        write(store.path(f"clips/{stem}-m.mp4"), video.flip(-1).permute(0, 2, 3, 1).numpy())
        prompt = row["prompt"]
        turned = prompt.replace("right", "\0").replace("left", "right").replace("\0", "left")
        for name, caption in ((f"{stem}.mp4", prompt), (f"{stem}-m.mp4", turned)):
            unguided = draw.random() < UNGUIDED
            table.append((name, NEGATIVE_PROMPT if unguided else caption, source))
    return table


def prepared(place: Place, pool: ProcessPoolExecutor, parts: int) -> ManifestRef:
    """The step prepare, whose rows the pool checks. One for all presets: they train on one size."""
    job = place.job("whole", Step.PREPARE, {})

    def check(listing: Listing, checker: Checker, report: Reporter) -> list[Checked]:
        shares = [list(listing.rows[number::parts]) for number in range(parts)]
        done = list(pool.map(_check, [place] * parts, [job] * parts, range(parts), shares))
        return sorted((one for part in done for one in part), key=lambda one: one.clip.row)

    review.check = check
    return _step(place, job)


def _check(place: Place, job: JobSpec, number: int, rows: list[Row]) -> list[Checked]:
    work = place.work(job) / str(number)
    work.mkdir(parents=True, exist_ok=True)
    count = caption_counter(job.base, place.store, work)
    checker = Checker(StoreSource(place.store, "clips"), finetune_of(job).dataset, work, count)
    return [checker(row) for row in rows]


def encoded(
    places: list[Place], dataset: ManifestRef, pool: ProcessPoolExecutor, parts: int
) -> dict[str, dict[str, ManifestRef]]:
    """The step encode of each preset: in parts, then one list of all. Inputs of the training."""
    shares = pool.map(_encode, [places] * parts, [dataset] * parts, range(parts), [parts] * parts)
    done = list(shares)
    inputs = {}
    for place in places:
        given = {"prepare": dataset}
        pieces = {
            step_id(Step.ENCODE, shard=Shard(index=number, count=parts)): refs[place.preset]
            for number, refs in enumerate(done)
        }
        ref = _step(place, place.job("whole", Step.ENCODE, given | pieces))
        inputs[place.preset] = {**given, "encode": ref}
    return inputs


def _encode(
    places: list[Place], dataset: ManifestRef, number: int, parts: int
) -> dict[str, ManifestRef]:
    """One part for all presets, which share all but the image's features."""
    _encode_first_frames_once()
    shard = {"index": number, "count": parts}
    return {
        place.preset: _step(
            place, place.job("whole", Step.ENCODE, {"prepare": dataset}, shard=shard)
        )
        for place in places
    }


def _encode_first_frames_once() -> None:
    """Every preset's transformer is conditioned on the same latents of a first frame."""
    kept: dict[bytes, Any] = {}
    unit: Any = WanVideoUnit_ImageEmbedderVAE
    process = getattr(unit, "encode_anew", unit.process)
    unit.encode_anew = process

    def once(self: Any, pipe: Any, input_image: Any, *rest: Any, **more: Any) -> Any:
        key = input_image.tobytes()
        if key not in kept:
            kept[key] = process(self, pipe, input_image, *rest, **more)
        return dict(kept[key])

    unit.process = once


def start_training(
    pool: ProcessPoolExecutor,
    place: Place,
    inputs: dict[str, ManifestRef],
    deadline: float,
    batch: int,
) -> dict[Expert, Future[Path]]:
    """One process an expert; each ends soon after `deadline`, a time of time.time()."""
    return {
        expert: pool.submit(train_expert, place, expert, inputs, deadline, batch)
        for expert in PRESETS[place.preset].experts
    }


def seeded(job: JobSpec) -> ExceptSeeded:
    """The method of a job that trains all weights, for `train`."""
    full = finetune_of(job).full
    assert full is not None
    return ExceptSeeded(full)


def train_expert(
    place: Place, expert: Expert, inputs: dict[str, ManifestRef], deadline: float, batch: int
) -> Path:
    """Folder with full.safetensors and training.json."""
    device = compute_device()
    held = _hold_latents(device)
    training: Any = loop
    training.method_of = seeded
    seconds, error = deadline - time.time(), None
    for attempt in range(3):
        job = place.job(
            "whole" if attempt == 0 else f"again-{attempt}",
            Step.TRAIN,
            inputs,
            expert=expert,
            full={"learningRate": RATE / 3**attempt},
            training={
                "steps": UNLIMITED,
                "batchSize": batch,
                "schedule": "Cosine",
                "warmupSteps": 0,
                "optimizer": {"beta2": 0.99},
                "gradientCheckpointing": "None",
                "checkpointEvery": UNLIMITED,
                "probeEvery": UNLIMITED,
            },
        )
        if attempt == 0:
            work = place.work(job)
            work.mkdir(parents=True, exist_ok=True)
            latents = load_latents(place.store, inputs["encode"], work)
            reader = LocalCache(place.store, work)
            for clip in latents.train:
                for entry in (clip.video, clip.text, clip.image):
                    reader.load(entry)
            print(f"{place.preset} {expert}: {len(held)} entries held", flush=True)
        _go_by_the_clock(deadline, f"{place.preset} {expert}")
        try:
            _step(place, job)
            return place.store.path(f"{job.output_prefix}/full.safetensors").parent
        except NumericalError as failure:
            error = failure
            print(f"{place.preset} {expert}: {failure}, again at a third of the rate", flush=True)
            if deadline - time.time() < 0.2 * seconds:
                break
    raise RuntimeError(str(error))


class ExceptSeeded(Full):
    """All weights but the seeded projection."""

    def prepare(self, transformer: Transformer, seed: int) -> dict[str, nn.Parameter]:
        trainable = super().prepare(transformer, seed)
        for name in SEEDED:
            if name in trainable:
                trainable.pop(name).requires_grad_(False)
        return trainable


def _hold_latents(device: torch.device) -> dict[str, dict[str, Tensor]]:
    """The runtime reads a clip's three files at each use; here each is used a hundred times."""
    held: dict[str, dict[str, Tensor]] = {}
    read_entry = LocalCache.load

    def load(cache: LocalCache, entry: Entry) -> dict[str, Tensor]:
        if entry.key not in held:
            tensors = read_entry(cache, entry)
            held[entry.key] = {name: tensor.to(device) for name, tensor in tensors.items()}
        return held[entry.key]

    def path(cache: LocalCache, entry: Entry) -> Path:
        store: Store = cache._store
        assert isinstance(store, FolderStore)
        return store.path(entry.key)

    patched: Any = LocalCache
    patched.load, patched.fetch = load, path
    return held


def _go_by_the_clock(deadline: float, label: str) -> None:
    """Warm up, fall along a cosine and end in time, not in steps: the speed is not known."""
    began = time.time()
    training: Any = loop
    rates: Any = update
    step = getattr(training.Trainer, "one_step", training.Trainer.step)
    training.Trainer.one_step = step
    printed = [began]

    def timely(trainer: loop.Trainer) -> None:
        step(trainer)
        now = time.time()
        if now > deadline:
            trainer.total = trainer.validation.total = trainer.state.step
        if now - printed[0] > 20 or now > deadline:
            printed[0] = now
            recent = [entry["loss"] for entry in trainer.state.history["steps"][-200:]]
            print(
                f"{label}: step {trainer.state.step}, "
                f"{(now - began) / trainer.state.step * 1000:.0f} ms a step, "
                f"loss {sum(recent) / len(recent):.4f}",
                flush=True,
            )

    def factor(number: int, total: int, spec: Any) -> float:
        now = time.time()
        share = min(1.0, (now - began) / max(1e-3, deadline - began))
        return min(1.0, (now - began + 0.1) / WARM_SECONDS) * 0.5 * (1 + math.cos(math.pi * share))

    training.Trainer.step = timely
    rates.rate_factor = factor


def _step(place: Place, job: JobSpec) -> ManifestRef:
    modules: dict[Step, Any] = {Step.PREPARE: prepare, Step.ENCODE: cache, Step.TRAIN: train}
    work = place.work(job)
    work.mkdir(parents=True, exist_ok=True)
    started = time.time()
    outcome = modules[job.step].run(job, place.store, work, Reporter(job.step_id))
    if job.shard is None or job.shard.index == 0:
        print(
            f"{place.preset} {job.step_id}: {outcome.message} ({time.time() - started:.0f} s)",
            flush=True,
        )
    manifest: ManifestRef = outcome.manifest
    return manifest


def processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
