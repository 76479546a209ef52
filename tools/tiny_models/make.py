"""Make the weights of the tiny models from the clips.

    python -m tiny_models.make vae --clips FOLDER --out OUT --minutes 7 [--weights START]
    python -m tiny_models.make dit --clips FOLDER --out OUT --weights OUT --minutes 8

`vae` writes vae.safetensors, from noise or going on from START's, with a sheet (PNG) and a report
(JSON). `dit` reads it from --weights, with transformers to go on from if they lie there too, and
writes one file an expert, its curve of losses, and a sheet for each preset whose experts are all
made.
Runs on a GPU; --scale makes a trial on a CPU possible.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tiny_models import train_dit, train_vae
from tiny_models.clip_files import HELD_OUT
from tiny_models.sheets import sheet
from wan_runtime.contract.steps import Step
from wan_runtime.models import layout
from wan_runtime.models.load import compute_device, compute_dtype, load_pipeline
from wan_runtime.models.tiny import VAE_FILE, TinyVAE, dit_file
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.media import quantize
from wan_runtime.training.sample import render

PRESET_NAMES = ("Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny")
SHOWN = (
    "carphone_pristine",
    "bikes",
    "dm_control-quadruped",
    "photograph-coffee",
    "bigbuckbunny",
    "photograph-astronaut",
    "ripples",
    "objects-rolls",
    "gymnasium-ant",
)
"""Sources of the sheets; the first four are held out."""
SAMPLING_SECONDS = 60
"""Kept for the sheets after the training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("vae", "dit"))
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--work", type=Path, default=Path("/tmp/tiny-models"))
    parser.add_argument("--minutes", type=float, required=True, help="of the whole call")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the clips")
    parser.add_argument("--batch", type=int, default=train_dit.BATCH)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    {"vae": vae, "dit": dit}[options.what](options, time.time())


def vae(options: argparse.Namespace, started: float) -> None:
    device = compute_device()
    rows = listed(options.clips)
    train_rows = [row for row in rows if row["source"] not in HELD_OUT]
    train_rows = train_rows[:: max(1, round(1 / options.scale))]
    paths = [options.clips / row["video"] for row in train_rows]
    small = train_vae.read(paths, *train_vae.SIZE)
    large = train_vae.read(paths, 120, 160)
    say(started, f"{len(small)} clips read")
    seconds = options.minutes * 60 - (time.time() - started) - 30
    start = load_file(options.weights / VAE_FILE) if options.weights else None
    count = train_vae.BATCH if device.type == "cuda" else 1
    model = train_vae.train(
        small, large, seconds, device, lambda text: say(started, text), start, count
    )
    state = {name: tensor.cpu().half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, options.out / VAE_FILE)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    pictures, facts = [], {}
    for row in first_clips(rows):
        (clip,) = train_vae.read([options.clips / row["video"]], *train_vae.SIZE)
        back = train_vae.reconstruct(model, clip, device)
        psnr, ssim = train_vae.quality(clip, back)
        facts[row["video"]] = {"psnr": psnr, "ssim": ssim, "heldOut": row["source"] in HELD_OUT}
        label = f"{row['source']} PSNR {psnr:.1f} SSIM {ssim:.3f}"
        pictures += [
            (label, frames(clip[: len(back)])),
            ("through the VAE in float16", frames(back)),
        ]
    sheet(pictures, options.out / "sheet-vae.png")
    held = [fact["psnr"] for fact in facts.values() if fact["heldOut"]]
    say(started, f"held-out PSNR {held}, mean {np.mean(held):.2f}")
    (options.out / "vae.json").write_text(json.dumps(facts, indent=1))
    stock(model, small[0], device, started)
    for name, fact in facts.items():
        say(started, f"{name}: {fact}")


def stock(model: Any, clip: torch.Tensor, device: torch.device, started: float) -> None:
    """Does diffsynth's own way through the clip give unit latents and the same picture?"""
    codec = TinyVAE()
    codec.model.load_state_dict(model.state_dict())
    codec.model.to(device)
    video = clip[:17].to(device).transpose(0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = codec.model.encode(video, codec.scale)
        back = codec.model.decode(latents, codec.scale)
    error = float((back - video).square().mean())
    mean, deviation = float(latents.mean()), float(latents.std())
    psnr = 10 * np.log10(4 / error)
    say(started, f"stock: latents mean {mean:.3f} deviation {deviation:.3f}, PSNR {psnr:.1f}")


def dit(options: argparse.Namespace, started: float) -> None:
    deadline = started + options.minutes * 60 - SAMPLING_SECONDS
    places = [train_dit.Place(options.work, name) for name in PRESET_NAMES]
    parts = options.workers
    with train_dit.processes(parts) as pool:
        for place in places:
            train_dit.write_model(PRESETS[place.preset], place.model, options.weights)
        count = train_dit.fill_store(options.clips, places[0].store, pool, parts, options.scale)
        say(started, f"{count} clips stored")
        dataset = train_dit.prepared(places[0], pool, parts)
        say(started, "prepared")
        inputs = train_dit.encoded(places, dataset, pool, parts)
        say(started, "encoded")
        training = [
            (place, expert, future)
            for place in places
            for expert, future in train_dit.start_training(
                pool, place, inputs[place.preset], deadline, options.batch
            ).items()
        ]
        for place, expert, future in training:
            name = dit_file(PRESETS[place.preset], expert)
            try:
                folder = future.result(max(1.0, deadline + 25 - time.time()))
            except Exception as error:  # the others are worth keeping
                say(started, f"{name}: {error!r}")
                continue
            trained = load_file(folder / "full.safetensors")
            save_file(
                {key: tensor.to(torch.bfloat16) for key, tensor in trained.items()},
                options.out / name,
            )
            shutil.copy(folder / "loss.png", options.out / f"{Path(name).stem}-loss.png")
            record = json.loads((folder / "training.json").read_text())
            steps = len(record["steps"])
            say(started, f"{name}: {steps} steps, probes {[p['losses'] for p in record['probes']]}")
        vae = options.out / VAE_FILE
        if vae.resolve() != (options.weights / vae.name).resolve():
            shutil.copy(options.weights / vae.name, vae)
        made = [place for place in places if is_made(options.out, place)]
        for sampled in [pool.submit(samples, options, place, started) for place in made]:
            try:
                sampled.result()
            except Exception as error:
                say(started, repr(error))


def is_made(weights: Path, place: train_dit.Place) -> bool:
    preset = PRESETS[place.preset]
    return all((weights / dit_file(preset, expert)).is_file() for expert in preset.experts)


def samples(options: argparse.Namespace, place: train_dit.Place, started: float) -> None:
    """A sheet of what the preset makes of first frames, beside what really followed."""
    preset = PRESETS[place.preset]
    folder = options.work / "final" / place.preset
    train_dit.write_model(preset, folder, options.out)
    device = compute_device()
    pipe = load_pipeline(layout.locate(preset, folder), compute_dtype(device), device)
    pictures, path = [], options.out / f"sheet-{place.preset}.png"
    rows = first_clips(listed(options.clips))
    for row in rows if options.scale == 1 else rows[:2]:
        (clip,) = train_vae.read([options.clips / row["video"]], *train_vae.SIZE)
        reference = frames(clip[: preset.frames])
        pictures.append((f"{row['source']}: {row['prompt']}", reference))
        for guidance, steps in ((preset.guidance, 8), (5.0, 8), (1.0, 8), (preset.guidance, 20)):
            job = place.job("sample", Step.SAMPLE, {}, sample={"inferenceSteps": steps})
            chosen = _with_guidance(preset, guidance)
            video = quantize(render(pipe, chosen, job, row["prompt"], reference))
            away = np.abs(video.astype(float) - reference).mean()
            moved = np.abs(np.diff(video.astype(float), axis=0)).mean()
            real = np.abs(np.diff(reference.astype(float), axis=0)).mean()
            label = (
                f"guidance {guidance}, {steps} steps: off by {away:.1f} levels, "
                f"moves {moved:.1f} of {real:.1f}"
            )
            pictures.append((label, video))
        sheet(pictures, path)
    say(started, f"{place.preset}: sampled")


def _with_guidance(preset: Any, guidance: float) -> Any:
    return dataclasses.replace(preset, guidance=guidance)


def listed(clips: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((clips / "metadata.csv").open()))


def first_clips(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The first clip of each source to show."""
    first = {row["source"]: row for row in reversed(rows)}
    return [first[source] for source in SHOWN if source in first]


def frames(clip: torch.Tensor) -> Any:
    return clip.permute(0, 2, 3, 1).numpy()


def say(started: float, text: str) -> None:
    print(f"[{time.time() - started:5.0f}] {text}", flush=True)


if __name__ == "__main__":
    main()
