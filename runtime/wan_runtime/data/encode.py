"""The encode step: every caption and clip of the prepared dataset into the latent cache, once.

Or of a part of the clips, beside other pods that encode theirs.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.results import prepared
from wan_runtime.data import latents
from wan_runtime.data.dataset import Clip, load_dataset
from wan_runtime.data.gather import commit_listing
from wan_runtime.data.latents import EncodedClip, Encoders, Entry, Latents
from wan_runtime.data.pixels import first_frame_of, frames_of
from wan_runtime.errors import NumericalError
from wan_runtime.model_parts import IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, VAE
from wan_runtime.models import compile_cache
from wan_runtime.models.digest import canonical_json, files_digest
from wan_runtime.models.encoders import Own, TextEncoder, VideoEncoder
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import compute_device, compute_dtype
from wan_runtime.models.source import base_model
from wan_runtime.presets import NEGATIVE_PROMPT
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.threads import in_order


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Encode what the cache lacks of the dataset, or of the job's part of it; commit the list of
    entries."""
    dataset = load_dataset(store, prepared(job))
    files = base_model(job, store, work, report, parts=())  # what the cache lacks may need none
    device = compute_device()
    compile_cache.use(device)
    dtype = compute_dtype(device)
    report.update(activity="hashing the encoders")
    picture = files.image_encoder
    encoders = Encoders(
        tokenizer=files_digest(files.tokenizer_files, files.verified),
        text_encoder=files_digest([files.text_encoder], files.verified),
        vae=files_digest([files.vae], files.verified),
        image_encoder=None if picture is None else files_digest([picture], files.verified),
        tiled=finetune_of(job).training.tiled_vae,
        dtype=str(dtype).removeprefix("torch."),
    )
    step = _Encoding(job, store, work, report, encoders, device, dtype)
    clips = [*dataset.train, *dataset.held_out]
    if job.shard is not None:
        clips = clips[job.shard.index :: job.shard.count]
    texts = step.encode_texts({"", NEGATIVE_PROMPT, *(clip.prompt for clip in clips)})
    windows = [(clip, start) for clip in clips for start in clip.starts]
    videos = step.encode_windows(windows)
    listing = Latents(
        clips=tuple(
            EncodedClip(
                path=clip.path,
                start=start,
                sha256=clip.sha256 or "",
                prompt=clip.prompt,
                source=clip.source,
                split=clip.split or "Train",
                bucket=clip.size,
                text=texts[clip.prompt],
                video=video,
                image=image,
            )
            for (clip, start), (video, image) in zip(windows, videos, strict=True)
        ),
        empty_text=texts[""],
        negative_text=texts[NEGATIVE_PROMPT],
    )
    message = (
        f"{len(clips)} clips in the latent cache: "
        f"{step.encoded} objects encoded, {step.reused} already there"
    )
    digest = hashlib.sha256(canonical_json(encoders.model_dump())).hexdigest()
    return commit_listing(job, store, work, clips, listing, digest, message)


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of a clip, about to be encoded."""

    path: str
    """Path of the clip."""
    video_key: str
    image_key: str
    video: Entry | None
    image: Entry | None
    """What the cache has already."""
    frames: NDArray[np.uint8]
    """[F, H, W, 3]; nothing if the cache has both."""
    first: NDArray[np.uint8]
    """[H, W, 3]"""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A window with what the cache lacked of it, in host memory."""

    window: _Window
    video: dict[str, torch.Tensor] | None
    image: dict[str, torch.Tensor] | None


READERS = 3
"""Windows that are fetched and decoded at a time, while the GPU encodes another."""
COMPILED_FROM = 64
"""Windows for which compiling the encoder pays: it takes 20 s, and saves half a second of each."""
NOTHING: NDArray[np.uint8] = np.empty(0, np.uint8)


class _Encoding:
    """Encodes into the cache and counts. T5 is gone before VAE and CLIP arrive: they never share
    the GPU.
    """

    def __init__(
        self,
        job: JobSpec,
        store: Store,
        work: Path,
        report: Reporter,
        encoders: Encoders,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._job, self._store, self._work, self._report = job, store, work, report
        self._encoders, self._device, self._dtype = encoders, device, dtype
        self.encoded = 0
        self.reused = 0

    def encode_texts(self, captions: Iterable[str]) -> dict[str, Entry]:
        """Entry of each caption."""
        keys = {
            caption: self._key(latents.text_key(caption, self._encoders))
            for caption in sorted(captions)
        }
        entries = {caption: latents.find(self._store, key) for caption, key in keys.items()}
        missing = [caption for caption, entry in entries.items() if entry is None]
        self.reused += len(entries) - len(missing)
        if missing:
            encoder = TextEncoder(self._model(TOKENIZER, TEXT_ENCODER), self._dtype, self._device)
            for number, caption in enumerate(missing):
                self._report.update(
                    activity="encoding captions", current=number, total=len(missing), unit="clips"
                )
                tensors = {"context": latents.trim_text(encoder.encode(caption))}
                entries[caption] = self._put(keys[caption], tensors, f"caption {caption[:60]!r}")
            del encoder
            self._free()
        return {caption: entry for caption, entry in entries.items() if entry is not None}

    def encode_windows(self, windows: list[tuple[Clip, int]]) -> list[tuple[Entry, Entry]]:
        """(video, image) entries of each window: a clip and its first frame."""
        entries = []
        self._publish(0, windows)
        read = in_order(self._read, windows, threads=READERS)
        encoded = self._encoded(read, len(windows))
        # One thread stores: of two windows that are one entry, the second is found there.
        for entry in in_order(self._stored, encoded, threads=1):
            entries.append(entry)
            self._publish(len(entries), windows)
        self._free()
        return entries

    def _encoded(self, windows: Iterable[_Window], count: int) -> Iterator[_Encoded]:
        """What the cache lacks of each window, of `count`."""
        encoder: VideoEncoder | None = None
        for window in windows:
            video = image = None
            if window.video is None or window.image is None:
                encoder = encoder or self._video_encoder(count)
                if window.video is None:
                    video = _on_host(encoder.encode_video(window.frames))
                if window.image is None:
                    first, length = window.first, len(window.frames)
                    image = _on_host(encoder.encode_first_frame(first, length))
            yield _Encoded(replace(window, frames=NOTHING, first=NOTHING), video, image)

    def _stored(self, encoded: _Encoded) -> tuple[Entry, Entry]:
        """(video, image) entries of a window."""
        window = encoded.window

        def entry(key: str, there: Entry | None, tensors: dict[str, torch.Tensor] | None) -> Entry:
            if tensors is not None:
                return self._put(key, tensors, window.path)
            assert there is not None
            self.reused += 1
            return there

        return (
            entry(window.video_key, window.video, encoded.video),
            entry(window.image_key, window.image, encoded.image),
        )

    def _publish(self, done: int, windows: list[tuple[Clip, int]]) -> None:
        self._report.update(
            activity="encoding clips", current=done, total=len(windows), unit="clips"
        )

    def _video_encoder(self, windows: int) -> VideoEncoder:
        parts = (VAE, IMAGE_ENCODER) if self._encoders.image_encoder else (VAE,)
        tiled = self._encoders.tiled
        own: Own = "No"
        if self._device.type == "cuda" and not tiled:
            own = "Compiled" if windows >= COMPILED_FROM else "Eager"
        return VideoEncoder(
            self._model(*parts), self._dtype, self._device, tiled=tiled, encoder=own
        )

    def _model(self, *parts: str) -> ModelFiles:
        return base_model(self._job, self._store, self._work, self._report, parts)

    def _read(self, window: tuple[Clip, int]) -> _Window:
        """What the cache has of a window, and its pixels if that is not all."""
        (clip, start), fps = window, finetune_of(self._job).dataset.fps
        video_key = self._key(latents.video_key(clip, fps, self._encoders, start))
        image_key = self._key(latents.image_key(clip, fps, self._encoders, start))
        video, image = latents.find(self._store, video_key), latents.find(self._store, image_key)
        frames = first = NOTHING
        if video is None or image is None:
            (self._work / "clips").mkdir(parents=True, exist_ok=True)
            # Of its own: windows of one clip are read side by side.
            with TemporaryDirectory(dir=self._work / "clips") as folder:
                frames = frames_of(self._store, clip, fps, Path(folder), start)
                first = first_frame_of(self._store, clip, frames, Path(folder))
        return _Window(clip.path, video_key, image_key, video, image, frames, first)

    def _key(self, name: str) -> str:
        return f"{self._job.cache_prefix}/{name}"

    def _put(self, key: str, tensors: dict[str, torch.Tensor], what: str) -> Entry:
        # A bad entry would poison every later run of the store prefix: it is never stored.
        if not latents.finite(tensors):
            raise NumericalError(
                Reason.NON_FINITE_LOSS, f"the encoding of {what} holds NaN or infinite values"
            )
        # Another run may have stored it meanwhile, on a GPU not to the same bit, and listed it.
        if (stored := latents.find(self._store, key)) is not None:
            self.reused += 1
            return stored
        self.encoded += 1
        return latents.put(self._store, key, tensors)

    def _free(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _on_host(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}
