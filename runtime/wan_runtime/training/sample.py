"""The sample step: the same held-out first frames rendered by the base model and with the exported
weights.

Through the unmodified diffsynth pipeline and its own loaders, with equal seeds: what a user of the
artifact will see. All base videos come first, because loading an adapter fuses it into the weights,
and two pipelines with full weights would not fit side by side.
"""

from __future__ import annotations

import gc
import glob
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wan_runtime import heartbeat
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import Dialect, finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.results import exported, prepared
from wan_runtime.data.buckets import one_of_each_bucket
from wan_runtime.data.dataset import Clip, load_dataset
from wan_runtime.data.pixels import first_frame_of, frames_of
from wan_runtime.errors import NumericalError
from wan_runtime.models.encoders import TILE_SIZE, TILE_STRIDE
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import compute_device, compute_dtype, load_pipeline, quietly
from wan_runtime.models.source import base_model
from wan_runtime.presets import NEGATIVE_PROMPT, Preset, preset_of
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.rendering.media import Frames, Pixels, contact_sheet, quantize, write_mp4
from wan_runtime.training.card import MODULES
from wan_runtime.training.experts import trained_experts
from wan_runtime.training.export import file_name

SHEET = "contact-sheet.png"


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Render, compare and commit."""
    spec = finetune_of(job)
    preset = preset_of(job)
    dataset = load_dataset(store, prepared(job))
    clips = one_of_each_bucket(dataset.held_out or dataset.train)[: spec.sample.count]
    artifact = work / "artifact"
    weights_ref = exported(job)
    names = manifest.load(store, weights_ref).certified(Dialect.DIFFSYNTH)
    weights = manifest.fetch(store, weights_ref, artifact, names)
    references = [_reference(job, store, work, clip) for clip in clips]

    method = "lora" if spec.full is None else "full"
    base: list[Pixels] = []
    tuned: list[Pixels] = []
    if clips:
        report.update(activity="loading the pipeline")
        files = base_model(job, store, work, report)
        pipe = open_pipeline(files)
        for target, label in ((base, "base"), (tuned, method)):
            if label == "lora":
                load_adapters(pipe, job, artifact)
            elif label == "full":
                del pipe
                pipe = open_pipeline(with_trained(files, job, artifact))
            for clip, reference in zip(clips, references, strict=True):
                done = len(base) + len(tuned)
                report.update(
                    activity="rendering", current=done, total=2 * len(clips), unit="videos"
                )
                target.append(render(pipe, preset, job, clip.prompt, reference))
                check_rendered(target[-1], f"{label} video of {clip.path}")

    videos, rows = {}, []
    for number, (reference, plain, trained) in enumerate(zip(references, base, tuned, strict=True)):
        labelled = {"reference": reference, "base": quantize(plain), method: quantize(trained)}
        for label, frames in labelled.items():
            videos[f"{label}-{number}.mp4"] = path = work / f"{label}-{number}.mp4"
            write_mp4(frames, path, spec.dataset.fps)
            rows.append((f"{label.replace('lora', 'LoRA')} {number}", frames))
    summary: dict[str, int | float | str] = {"videos": len(tuned)}
    if rows:
        videos[SHEET] = work / SHEET
        contact_sheet(rows, videos[SHEET])
        summary["meanDifference"] = float(f"{difference(base, tuned, _what(job)):.4g}")
    ref = manifest.commit(
        store,
        job.output_prefix,
        videos,
        kind="samples",
        summary=summary,
        lineage=Lineage.of(
            job,
            base_weights=weights.lineage.base_weights,
            dataset=prepared(job).sha256,
            seed=spec.sample.seed,
        ),
    )
    change = (
        f"; {_what(job)} changes pixels by {summary['meanDifference']} of 255 on average"
        if rows
        else ""
    )
    return Outcome(
        manifest=ref,
        message=f"{len(tuned)} held-out first frames rendered twice{change}",
        summary=summary,
    )


def render(pipe: Any, preset: Preset, job: JobSpec, prompt: str, reference: Frames) -> Pixels:
    """A video [F, H, W, 3] in [-1, 1] from the first frame of `reference` and as long and large,
    with the preset's official sampling.
    """
    frames, height, width = reference.shape[:3]
    # The pipeline's own default boundary is the text-to-video model's.
    boundary = {} if preset.boundary is None else {"switch_DiT_boundary": preset.boundary}
    video = pipe(
        prompt=prompt,
        negative_prompt=NEGATIVE_PROMPT,
        input_image=Image.fromarray(reference[0]),
        seed=finetune_of(job).sample.seed,
        rand_device="cpu",
        height=height,
        width=width,
        num_frames=frames,
        num_inference_steps=finetune_of(job).sample.inference_steps,
        sigma_shift=preset.shift,
        cfg_scale=preset.guidance,
        tiled=finetune_of(job).training.tiled_vae,
        tile_size=TILE_SIZE,
        tile_stride=TILE_STRIDE,
        progress_bar_cmd=_beating,
        output_type="floatpoint",
        **boundary,
    )
    pixels: Pixels = video[0].permute(1, 2, 3, 0).float().cpu().numpy()
    if not np.isfinite(pixels).all():
        raise NumericalError(
            Reason.NON_FINITE_LOSS, f"sampling gave NaN or infinite pixels for {prompt[:60]!r}"
        )
    return pixels


def open_pipeline(files: ModelFiles) -> Any:
    """The stock pipeline on this machine's device."""
    device = compute_device()
    gc.collect()  # what was let go of just now, before as much is loaded
    offload = device.type == "cuda" and not files.preset.tiny
    return load_pipeline(files, compute_dtype(device), device, offload=offload)


def with_trained(files: ModelFiles, job: JobSpec, folder: Path) -> ModelFiles:
    """The base model with the exported full weights in place of the transformers trained."""
    dits = {}
    for expert in trained_experts(job):
        stem = glob.escape(file_name(job, expert, ""))
        dits[expert] = (
            *folder.glob(f"{stem}.safetensors"),
            *sorted(folder.glob(f"{stem}-*-of-*.safetensors")),
        )
    return replace(files, dits={**files.dits, **dits})


def load_adapters(pipe: Any, job: JobSpec, folder: Path) -> None:
    """Stock `load_lora` of each expert's file onto its transformer."""
    for expert in trained_experts(job):
        with quietly():
            pipe.load_lora(
                getattr(pipe, MODULES[expert]), str(folder / file_name(job, expert, ".safetensors"))
            )


def difference(base: list[Pixels], tuned: list[Pixels], what: str) -> float:
    """Mean absolute difference of pixels, in units of 1/255, before rounding hides what is small.

    Raises:
        NumericalError: DEAD_GRADIENTS, if there is none: `what` was trained changes nothing.
    """
    mean = float(np.mean([np.abs(a - b).mean() for a, b in zip(base, tuned, strict=True)])) * 127.5
    if mean == 0:
        raise NumericalError(
            Reason.DEAD_GRADIENTS,
            f"{what} changes nothing: videos with and without it are the same pixels",
        )
    return mean


def check_rendered(pixels: Pixels, what: str) -> None:
    """Raises NumericalError if a video is one flat colour."""
    if pixels.std() == 0:
        raise NumericalError(Reason.NON_FINITE_LOSS, f"the {what} is one flat colour")


def _reference(job: JobSpec, store: Store, work: Path, clip: Clip) -> Frames:
    """The clip, beginning with what the model starts from."""
    frames = frames_of(store, clip, finetune_of(job).dataset.fps, work / "clips", clip.starts[0])
    frames[0] = first_frame_of(store, clip, frames, work / "clips")
    return frames


def _what(job: JobSpec) -> str:
    return "the adapter" if finetune_of(job).full is None else "full fine-tuning"


def _beating(steps: Iterable[Any]) -> Iterator[Any]:
    """The steps of a video, each with a heartbeat, in place of a progress bar."""
    for step in steps:
        heartbeat.beat()
        yield step
