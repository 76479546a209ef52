"""The parts of a loaded model, and where their weights are.

Rank 0 has the encoders; each rank has the transformers and, but for the profile Exact, the VAE. The
text encoder waits in host memory: it works for a second a clip. So do transformers that would fill
the GPU, see `planner.placement`.
"""

from __future__ import annotations

import torch

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import (
    DEFAULT_PROFILE,
    DEFAULT_STEP_CACHE,
    AttentionKernel,
    Profile,
    StepCachePolicy,
)
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models import load
from wan_runtime.models.digest import files_digest
from wan_runtime.models.dit import float8_linear
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.dit.transformer import Choice, Transformer
from wan_runtime.models.encoders import Own, TextEncoder, VideoDecoder, VideoEncoder
from wan_runtime.models.layout import ModelFiles
from wan_runtime.planner.architecture import loaded_bytes
from wan_runtime.planner.placement import Placement, placement
from wan_runtime.presets import Preset
from wan_runtime.rendering.step_cache import Caching
from wan_runtime.rendering.times import Times


class Model:
    """A base model as one rank holds it."""

    def __init__(
        self,
        files: ModelFiles,
        ranks: Ranks,
        device: torch.device,
        profile: Profile = DEFAULT_PROFILE,
        policy: StepCachePolicy = DEFAULT_STEP_CACHE,
        times: Times | None = None,
        attention: AttentionKernel | None = None,
    ) -> None:
        """Raises InputError(MODEL_INVALID) if diffsynth does not recognise the files, and with
        JOB_INVALID if `attention`, the kernel to use, cannot be used here, the ranks cannot share
        the attention heads, or `policy` is not for this model; InfrastructureError, as
        `check_device`. `times`: where seconds of loading are counted."""
        times = times or Times()
        host = torch.device("cpu")
        self.preset, self.ranks, self.device = files.preset, ranks, device
        self.profile, self.caching = profile, Caching(policy, files.preset)
        self.dtype = load.compute_dtype(device)
        with times.of("digests"):
            self.digest = digest_of(files)
        self.transformers: dict[Expert, Transformer] = {}
        self.placement = placement_of(files.preset, device, profile)
        for expert in files.preset.experts:
            with times.of("transformers"):
                made = Transformer.load(
                    files, expert, device, self.dtype, kernels=attention or "Auto", profile=profile,
                    offloaded=self.placement == "Turns", streamed=self.placement == "Streamed",
                )  # fmt: skip
            _check_heads(made, ranks)
            self.transformers[expert] = made
        self.text: TextEncoder | None = None
        self.video: VideoEncoder | None = None
        self.decoder: VideoDecoder | None = None
        fused, encoder = profile != "Exact", encoder_of(device, profile)
        if ranks.rank == 0:
            with times.of("text encoder"):
                self.text = TextEncoder(files, self.dtype, device, home=host)
            with times.of("VAE and CLIP"):
                self.video = VideoEncoder(
                    files, self.dtype, device, tiled=False, fused=fused, encoder=encoder
                )
            self.decoder = self.video
        elif fused:
            self.decoder = VideoDecoder(
                files, self.dtype, device, tiled=False, fused=True, encoder=encoder
            )

    @property
    def at_work(self) -> Choice:
        """Kernels of the last video."""
        return self.transformers[self.preset.experts[0]].at_work

    @property
    def attention(self) -> str:
        """Kernel of the last video's self-attention, and whether it was named."""
        transformer = self.transformers[self.preset.experts[0]]
        name = transformer.at_work.attention
        return f"{name} (named)" if name == transformer.named else name

    @property
    def linear(self) -> str:
        """Format that most linear layers of the last video computed in."""
        return float8_linear.NAME if self.at_work.float8 else str(self.dtype).split(".")[-1]

    def transformer(self, expert: Expert) -> Transformer:
        """One expert's, on the device."""
        for other, each in self.transformers.items():
            if other is not expert:  # first: there is room for one
                each.leave()
        self.transformers[expert].bring()
        return self.transformers[expert]


def _check_heads(transformer: Transformer, ranks: Ranks) -> None:
    try:
        transformer.check_heads(ranks.everyone.shares)
    except ValueError as error:
        text = f"{ranks.world} GPUs cannot render a video together: {error}: take fewer, or a ring"
        raise InputError(Reason.JOB_INVALID, text) from error


def digest_of(files: ModelFiles) -> str:
    """SHA-256 of the transformers' files. Reads those that were not verified."""
    shards = [path for expert in files.preset.experts for path in files.dits[expert]]
    return files_digest(shards, files.verified)


def encoder_of(device: torch.device, profile: Profile) -> Own:
    """Which of the VAE's encoders takes a photo: our own, but with Exact and on CPUs. Compiled it
    would save a part of a second a video, and cost twenty at a start."""
    return "Eager" if device.type == "cuda" and profile != "Exact" else "No"


def placement_of(preset: Preset, device: torch.device, profile: Profile) -> Placement:
    """Where the transformers' weights are, by what this process may take of a GPU."""
    if device.type != "cuda" or preset.tiny:
        return "Resident"
    share = torch.cuda.get_per_process_memory_fraction(device)
    memory = share * torch.cuda.mem_get_info(device)[1]
    return placement(loaded_bytes(preset.name), memory, exact=profile == "Exact")
