"""Encoding through the units of diffsynth's own pipeline, so that training sees exactly what
sampling will.

No transformer is loaded: the units ask it only which conditions it wants.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch
from diffsynth.pipelines.wan_video import (
    WanVideoPipeline,
    WanVideoUnit_ImageEmbedderCLIP,
    WanVideoUnit_ImageEmbedderVAE,
    WanVideoUnit_InputVideoEmbedder,
    WanVideoUnit_PromptEmbedder,
)
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wan_runtime.models import load
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.offload import Offloaded
from wan_runtime.models.vae_decoder import Decoder
from wan_runtime.models.vae_encoder import Encoder
from wan_runtime.models.vae_half import vae_dtype

# Shapes: F video frames, H W pixels, T = (F - 1) / 4 + 1 latent frames, h = H / 8, w = W / 8, D
# text width.

Own = Literal["No", "Eager", "Compiled"]
"""Whether and how our own forward of the VAE's encoder is used."""
MASKS = 4
"""Channels that say which frames are given, one for each frame of a latent frame."""
TILE_SIZE, TILE_STRIDE = (30, 52), (15, 26)
"""In latent rows and columns: the sampler's own defaults."""


class TextEncoder:
    """umT5 with its tokenizer."""

    def __init__(
        self,
        files: ModelFiles,
        dtype: torch.dtype,
        device: torch.device,
        *,
        home: torch.device | None = None,
    ) -> None:
        """`home`: where its weights wait while it is not at work, if not on the device. Raises
        InfrastructureError, as `check_device`."""
        load.check_device(files.preset, device)
        self._pipe = WanVideoPipeline(device=device.type, torch_dtype=dtype)
        self._pipe.tokenizer = load.load_tokenizer(files)
        self._pipe.text_encoder = load.load_text_encoder(files, dtype, home or device)
        self._at_work = Offloaded(self._pipe.text_encoder, device) if home else nullcontext()

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """[1, 512, D], zeros behind the caption."""
        with self._at_work:
            made = WanVideoUnit_PromptEmbedder().process(self._pipe, prompt, True)
        context: Tensor = made["context"]
        return context


class VideoDecoder:
    """The VAE alone."""

    def __init__(
        self,
        files: ModelFiles,
        dtype: torch.dtype,
        device: torch.device,
        *,
        tiled: bool,
        fused: bool = False,
        encoder: Own = "No",
    ) -> None:
        """
        Args:
            fused: with `frames`, which decodes faster and, in place of bfloat16, in half precision.
            encoder: with `photo`, which is faster and rounds elsewhere.

        Raises:
            InfrastructureError: as `check_device`.
        """
        load.check_device(files.preset, device)
        self._pipe = WanVideoPipeline(device=device.type, torch_dtype=dtype)
        self._pipe.vae = load.load_vae(files, vae_dtype(dtype) if fused else dtype, device)
        self._tiling = {"tiled": tiled, "tile_size": TILE_SIZE, "tile_stride": TILE_STRIDE}
        self._fused: Decoder | None = None
        if fused:
            self._fused = Decoder(self._pipe.vae, compiled=device.type == "cuda")
        self._encoder: Encoder | None = None
        if encoder != "No":
            self._encoder = Encoder(self._pipe.vae, compiled=encoder == "Compiled")

    @property
    def encodes(self) -> bool:
        """Whether there is `photo`."""
        return self._encoder is not None

    def photo(self, image_HWC: NDArray[np.uint8], count: int, ranks: Ranks) -> Tensor | None:
        """`y` of `encode_first_frame`, on rank 0, by `Encoder`. Collective."""
        assert self._encoder is not None
        latents = self._encoder.photo(image_HWC, count, ranks)
        if latents is None:
            return None
        mask = torch.zeros_like(latents[:MASKS])
        mask[:, 0] = 1
        return torch.cat([mask, latents])

    @property
    def fused(self) -> bool:
        """Whether there is `frames`."""
        return self._fused is not None

    def frames(self, latents_BCTHW: Tensor, ranks: Ranks) -> NDArray[np.uint8] | None:
        """[F, H, W, 3] of one video's latents on rank 0, by `Decoder`. Collective.

        Raises:
            NumericalError: on all ranks, if a pixel is not finite.
        """
        assert self._fused is not None
        made = self._fused.frames(latents_BCTHW.to(self._pipe.device), ranks)
        return None if made is None else made.numpy()

    @torch.no_grad()
    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """[F, H, W, 3] in [-1, 1], float32 on the CPU, of one video's latents."""
        latents = latents_BCTHW.to(self._pipe.torch_dtype)
        video = self._pipe.vae.decode(latents, self._pipe.device, **self._tiling)
        pixels: Tensor = video[0].permute(1, 2, 3, 0).float().cpu()
        return pixels


class VideoEncoder(VideoDecoder):
    """The VAE, both ways, and, for Wan2.1, CLIP."""

    def __init__(
        self,
        files: ModelFiles,
        dtype: torch.dtype,
        device: torch.device,
        *,
        tiled: bool,
        fused: bool = False,
        encoder: Own = "No",
    ) -> None:
        """`encoder`: of videos and photos, as of `VideoDecoder`."""
        super().__init__(files, dtype, device, tiled=tiled, fused=fused, encoder=encoder)
        if files.preset.uses_clip:
            self._pipe.image_encoder = load.load_image_encoder(files, dtype, device)
        self._pipe.dit = SimpleNamespace(
            require_vae_embedding=True,
            require_clip_embedding=files.preset.uses_clip,
            has_image_pos_emb=False,
        )
        # In training mode the unit returns clean latents instead of noised ones.
        self._pipe.scheduler.set_timesteps(1000, training=True)

    @torch.no_grad()
    def encode_video(self, frames_FHWC: NDArray[np.uint8]) -> dict[str, Tensor]:
        """`latents` [16, T, h, w] of uint8 frames [F, H, W, 3]."""
        if self._encoder is not None:
            return {"latents": self._encoder.video(frames_FHWC)}
        video = [Image.fromarray(frame) for frame in frames_FHWC]
        encoded = WanVideoUnit_InputVideoEmbedder().process(
            self._pipe,
            input_video=video,
            noise=None,
            vace_reference_image=None,
            framewise_decoding=False,
            animate2_reference_image=None,
            animate2_reference_video=None,
            **self._tiling,
        )
        return {"latents": encoded["input_latents"][0]}

    @torch.no_grad()
    def encode_first_frame(self, image_HWC: NDArray[np.uint8], count: int) -> dict[str, Tensor]:
        """Encode the first frame of a video of `count` frames, a uint8 image [H, W, 3]: `y`
        [20, T, h, w] (4 mask channels, then the latents of the image followed by grey) and, for
        Wan2.1, `clip` [257, 1280]."""
        y = self.photo(image_HWC, count, alone()) if self.encodes else self._stock(image_HWC, count)
        assert y is not None
        return {"y": y, **self.encode_clip(image_HWC)}

    @torch.no_grad()
    def encode_clip(self, image_HWC: NDArray[np.uint8]) -> dict[str, Tensor]:
        """`clip` of `encode_first_frame`; nothing for Wan2.2."""
        height, width = image_HWC.shape[:2]
        made = WanVideoUnit_ImageEmbedderCLIP().process(
            self._pipe, input_image=Image.fromarray(image_HWC), end_image=None,
            height=height, width=width,
        )  # fmt: skip
        return {"clip": made["clip_feature"][0]} if made else {}

    def _stock(self, image_HWC: NDArray[np.uint8], count: int) -> Tensor:
        """`y` by diffsynth."""
        height, width = image_HWC.shape[:2]
        encoded = WanVideoUnit_ImageEmbedderVAE().process(
            self._pipe, input_image=Image.fromarray(image_HWC), end_image=None, num_frames=count,
            height=height, width=width, **self._tiling,
        )  # fmt: skip
        made: Tensor = encoded["y"][0]
        return made
