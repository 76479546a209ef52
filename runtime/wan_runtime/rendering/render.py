"""One video: from an order and a first frame to frames, on all ranks together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import Size
from wan_runtime.data.picture import read
from wan_runtime.data.rejected import PictureRejected
from wan_runtime.errors import InputError, NumericalError
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.vae_decoder import NOT_FINITE
from wan_runtime.rendering.adapters import applied
from wan_runtime.rendering.media import Frames, quantize
from wan_runtime.rendering.model import Model
from wan_runtime.rendering.order import Stage, VideoOrder
from wan_runtime.rendering.sampling import Prompted, denoise, initial_noise, schedule_of

PROMPTS = 64
"""Texts whose encoding is kept: 4 MB each at 14B."""

Progress = Callable[[Stage, int], None]
"""Called with each stage and step as it begins, on every rank; what it raises ends the video."""


@dataclass(frozen=True, slots=True)
class Shot:
    """What the ranks made."""

    frames: Frames | None
    """uint8 [F, H, W, 3], on rank 0."""
    latents: Tensor
    """[1, 16, T, H, W], alike on all ranks."""
    seconds: dict[Stage, float]


class Renderer:
    """A rank with its model. Keeps encoded prompts and the adapters used last."""

    def __init__(self, model: Model, adapters: AdapterCache) -> None:
        self.model, self.ranks, self.adapters = model, model.ranks, adapters
        self._encode_text = lru_cache(PROMPTS)(self._encode)

    def render(
        self,
        order: VideoOrder,
        first_frame: Path,
        adapters: Sequence[AppliedAdapter] = (),
        progress: Progress = lambda stage, step: None,
    ) -> Shot:
        """Make a video. Collective.

        Args:
            first_frame: file of a picture of exactly the order's size.
            adapters: those of the order, fetched.

        Raises:
            InputError: if an adapter or the picture is not what it should be.
            NumericalError: if a pixel is not finite.
        """
        clock = Clock()
        with ExitStack() as stack:
            with clock.of(Stage.LOADING):
                progress(Stage.LOADING, 0)
                self.ranks.together(lambda: stack.enter_context(self._applied(adapters)))
            with clock.of(Stage.ENCODING_INPUT):
                progress(Stage.ENCODING_INPUT, 0)
                prompted = self._share(self._conditions(order, first_frame))
            with clock.of(Stage.DENOISING):
                latents = self._denoise(order, prompted, progress)
        with clock.of(Stage.DECODING):
            progress(Stage.DECODING, order.steps)
            frames = self._decode(latents)
        return Shot(frames, latents, clock.seconds)

    def computed(self, order: VideoOrder) -> frozenset[int]:
        """Numbers of the steps that are computed, see `Caching.computed`."""
        steps = schedule_of(self.model.preset, order)
        sigmas, experts = [each.sigma for each in steps], [each.expert for each in steps]
        profile = order.profile_on(self.model.profile)
        return self.model.caching.computed(profile, sigmas, experts)

    def _applied(self, adapters: Sequence[AppliedAdapter]) -> AbstractContextManager[None]:
        return applied(self.model.transformers, adapters, self.adapters)

    def _conditions(self, order: VideoOrder, first_frame: Path) -> dict[str, Tensor]:
        """What the texts and the picture are made into, on rank 0; nothing on the others.
        Collective."""
        picture, tensors = self.ranks.together(lambda: self._alone(order, first_frame))
        decoder = self.model.decoder
        if decoder is not None and decoder.encodes:
            # Not together: the ranks send to each other here, and what fails on one ends all.
            y = decoder.photo(picture, order.frames, self.ranks)
            if y is not None:
                tensors["y"] = y[None]
        return tensors

    def _alone(
        self, order: VideoOrder, first_frame: Path
    ) -> tuple[NDArray[np.uint8], dict[str, Tensor]]:
        """The picture, and what rank 0 makes of `_conditions` by itself."""
        picture = np.array(read_picture(first_frame, order.size))
        if self.ranks.rank:
            return picture, {}
        video = self.model.video
        assert video is not None
        tensors = {"positive": self._encode_text(order.prompt)}
        if order.guided:
            tensors["negative"] = self._encode_text(order.negative_prompt)
        encoded = (
            video.encode_clip(picture)
            if video.encodes
            else video.encode_first_frame(picture, order.frames)
        )
        tensors.update((name, tensor[None]) for name, tensor in encoded.items())
        return picture, tensors

    def _encode(self, prompt: str) -> Tensor:
        assert self.model.text is not None
        return self.model.text.encode(prompt)

    def _share(self, mine: dict[str, Tensor]) -> Prompted:
        """Rank 0's tensors on all ranks."""
        device, dtype = self.model.device, self.model.dtype
        tensors = {
            name: self.ranks.broadcast_tensor(mine.get(name), device)
            for name in self.ranks.broadcast(list(mine))
        }
        positive, negative = (
            Conditions(tensors[name], tensors["y"], tensors.get("clip")).to(device, dtype)
            if name in tensors
            else None
            for name in ("positive", "negative")
        )
        assert positive is not None
        return Prompted(positive, negative)

    def _denoise(self, order: VideoOrder, prompted: Prompted, progress: Progress) -> Tensor:
        def begin(step: int) -> None:
            # Kernels are launched up to half a step ahead of the GPU.
            wait_for_gpu()
            progress(Stage.DENOISING, step)

        return denoise(
            self.model.transformer,
            schedule_of(self.model.preset, order),
            initial_noise(order).to(self.model.device),
            prompted,
            self.ranks,
            order.profile_on(self.model.profile),
            begin,
            self.model.caching,
        )

    def _decode(self, latents: Tensor) -> Frames | None:
        """Frames, on rank 0. Collective."""
        decoder = self.model.decoder
        if decoder is not None and decoder.fused:
            # Not together: the ranks send to each other here, and what fails on one ends all.
            return decoder.frames(latents, self.ranks)
        if self.model.video is None:
            return None
        pixels = self.model.video.decode(latents).numpy()
        if not np.isfinite(pixels).all():
            raise NumericalError(Reason.NON_FINITE_LOSS, NOT_FINITE)
        return quantize(pixels)


def wait_for_gpu() -> None:
    """Return when the kernels that were launched have run. Copies on other streams go on."""
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()


class Clock:
    """Seconds of each stage, with what the GPU still has to do."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}

    @contextmanager
    def of(self, stage: Stage) -> Iterator[None]:
        start = time.monotonic()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[stage] = round(time.monotonic() - start, 3)


def read_picture(path: Path, size: Size) -> Image.Image:
    """A first frame, which the gateway has cut. Raises InputError(CLIP_INVALID)."""
    try:
        picture = read(path)
    except PictureRejected as rejected:
        raise InputError(Reason.CLIP_INVALID, f"the first frame {rejected.message}") from rejected
    if picture.size != (size.width, size.height):
        raise InputError(
            Reason.CLIP_INVALID,
            f"the first frame is {picture.width}x{picture.height}; the video is {size}",
        )
    return picture
