"""The sample step: the same held-out first frames rendered by the base model and with the exported
adapter.

Through the unmodified diffsynth pipeline and its own `load_lora`, with equal seeds: what a user of
the artifact will see. All base videos come first, because loading an adapter fuses it into the
weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage, job_hash
from wan_runtime.artifacts.store import Store
from wan_runtime.data.clips import read_clip
from wan_runtime.data.dataset import Clip, load_dataset
from wan_runtime.data.encoders import TILE_SIZE, TILE_STRIDE
from wan_runtime.data.latents import NEGATIVE_PROMPT
from wan_runtime.errors import NumericalError
from wan_runtime.job import JobSpec, Reason
from wan_runtime.models.load import compute_device, compute_dtype, load_pipeline, quietly
from wan_runtime.models.source import base_model, preset_of
from wan_runtime.outcome import Outcome
from wan_runtime.presets import Preset
from wan_runtime.progress import Reporter
from wan_runtime.training.card import MODULES
from wan_runtime.training.export import file_name
from wan_runtime.training.film import Frames, contact_sheet, write_mp4

SHEET = "contact-sheet.png"
Pixels = NDArray[np.float32]
"""[F, H, W, 3], as the VAE gave them."""


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Render, compare and commit."""
    preset = preset_of(job)
    dataset = load_dataset(store, job.inputs["prepare"])
    clips = (dataset.held_out or dataset.train)[: job.sample.count]
    artifact = work / "artifact"
    weights = manifest.fetch(store, job.inputs["export"], artifact)
    references = [_reference(job, store, work, clip) for clip in clips]

    base: list[Pixels] = []
    tuned: list[Pixels] = []
    if clips:
        report.update(activity="loading the pipeline")
        device = compute_device()
        pipe = load_pipeline(
            base_model(job, store, work),
            compute_dtype(device),
            device,
            offload=device.type == "cuda" and not preset.tiny,
        )
        for target, label in ((base, "base"), (tuned, "LoRA")):
            if target is tuned:
                load_adapters(pipe, preset, job, artifact)
            for clip, reference in zip(clips, references, strict=True):
                done = len(base) + len(tuned)
                report.update(
                    activity="rendering", current=done, total=2 * len(clips), unit="videos"
                )
                target.append(render(pipe, preset, job, clip.prompt, reference))
                check_rendered(target[-1], f"{label} video of {clip.path}")

    files, rows = {}, []
    for number, (reference, plain, adapted) in enumerate(zip(references, base, tuned, strict=True)):
        shown = {"reference": reference, "base": quantize(plain), "lora": quantize(adapted)}
        for label, frames in shown.items():
            files[f"{label}-{number}.mp4"] = path = work / f"{label}-{number}.mp4"
            write_mp4(frames, path, job.dataset.fps)
            rows.append((f"{label.replace('lora', 'LoRA')} {number}", frames))
    summary: dict[str, int | float | str] = {"videos": len(tuned)}
    if rows:
        files[SHEET] = work / SHEET
        contact_sheet(rows, files[SHEET])
        summary["meanDifference"] = float(f"{difference(base, tuned):.4g}")
    ref = manifest.commit(
        store,
        job.output_prefix,
        files,
        kind="samples",
        summary=summary,
        lineage=Lineage(
            config_hash=job_hash(job),
            preset=job.model.preset,
            expert=job.expert,
            image=job.image,
            base_weights=weights.lineage.base_weights,
            dataset=job.inputs["prepare"].sha256,
            seed=job.sample.seed,
            inputs=dict(job.inputs),
        ),
    )
    told = (
        f"; the adapter changes pixels by {summary['meanDifference']} of 255 on average"
        if rows
        else ""
    )
    return Outcome(
        manifest=ref,
        message=f"{len(tuned)} held-out first frames rendered twice{told}",
        summary=summary,
    )


def render(pipe: Any, preset: Preset, job: JobSpec, prompt: str, reference: Frames) -> Pixels:
    """A video [F, H, W, 3] in [-1, 1] from the first frame of `reference`, with the preset's
    official sampling.
    """
    size = job.dataset
    # The pipeline's own default boundary is the text-to-video model's.
    boundary = {} if preset.boundary is None else {"switch_DiT_boundary": preset.boundary}
    video = pipe(
        prompt=prompt,
        negative_prompt=NEGATIVE_PROMPT,
        input_image=Image.fromarray(reference[0]),
        seed=job.sample.seed,
        rand_device="cpu",
        height=size.height,
        width=size.width,
        num_frames=size.frames,
        num_inference_steps=job.sample.inference_steps,
        sigma_shift=preset.shift,
        cfg_scale=preset.guidance,
        tiled=job.training.tiled_vae,
        tile_size=TILE_SIZE,
        tile_stride=TILE_STRIDE,
        progress_bar_cmd=_silent,
        output_type="floatpoint",
        **boundary,
    )
    pixels: Pixels = video[0].permute(1, 2, 3, 0).float().cpu().numpy()
    if not np.isfinite(pixels).all():
        raise NumericalError(
            Reason.NON_FINITE_LOSS, f"sampling gave NaN or infinite pixels for {prompt[:60]!r}"
        )
    return pixels


def quantize(pixels: Pixels) -> Frames:
    """[-1, 1] to uint8."""
    return ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def load_adapters(pipe: Any, preset: Preset, job: JobSpec, folder: Path) -> None:
    """Stock `load_lora` of each expert's file onto its transformer."""
    for expert in preset.experts:
        with quietly():
            pipe.load_lora(
                getattr(pipe, MODULES[expert]), str(folder / file_name(job, expert, ".safetensors"))
            )


def difference(base: list[Pixels], tuned: list[Pixels]) -> float:
    """Mean absolute difference of pixels, in units of 1/255, before rounding hides what is small.

    Raises:
        NumericalError: DEAD_GRADIENTS, if there is none: the adapter changes nothing.
    """
    mean = float(np.mean([np.abs(a - b).mean() for a, b in zip(base, tuned, strict=True)])) * 127.5
    if mean == 0:
        raise NumericalError(
            Reason.DEAD_GRADIENTS,
            "the adapter changes nothing: videos with and without it are the same pixels",
        )
    return mean


def check_rendered(pixels: Pixels, what: str) -> None:
    """Raises NumericalError if a video is one flat colour."""
    if pixels.std() == 0:
        raise NumericalError(Reason.NON_FINITE_LOSS, f"the {what} is one flat colour")


def _reference(job: JobSpec, store: Store, work: Path, clip: Clip) -> Frames:
    path = work / "clips" / f"{clip.sha256}{Path(clip.path).suffix}"
    store.for_uri(clip.uri).download(clip.key, path, sha256=clip.sha256, bytes=clip.bytes)
    size = job.dataset
    return read_clip(path, frames=size.frames, fps=size.fps, width=size.width, height=size.height)


def _silent(steps: Any) -> Any:
    """In place of a progress bar."""
    return steps
