"""Train the tiny VAE on the clips: reconstruction, structure and a little noise in the latents.

Called by make.py. The result has diffsynth's names; its latents, scaled as diffsynth scales them,
have mean 0 and variance 1 on the clips.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from diffsynth.models.wan_video_vae import VideoVAE_
from torch import Tensor, nn

from tiny_models import whole_clip
from tiny_models.muon import Muon
from wan_runtime.models.tiny import TinyVAE

# Shapes: B batch, F frames, H W pixels, T h w latent frames, rows, columns.

SIZE = (96, 128)
"""Height and width at which the presets work."""
FRAMES = 17
"""Of a piece that is trained on: those that the presets work with. Zeros before the first frame
tell a causal convolution where it is, so more frames than these come out worse."""
BATCH = 8
RATE = 3e-3
"""Of Muon. Adam and Muon at 1e-3 were behind after the first steps."""
WEIGHTS = {"l1": 1.0, "l2": 1.0, "edges": 0.5, "blocks": 1.0, "ssim": 0.15, "kl": 1e-4}
"""Of the loss's terms. "blocks" is the error of colours averaged over 8x8 pixels."""


def read(paths: list[Path], height: int, width: int) -> list[Tensor]:
    """uint8 [F, 3, height, width] of each clip."""

    def one(path: Path) -> Tensor:
        with av.open(str(path)) as container:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)
        if video.shape[2:] == (height, width):
            return video
        size = (height, width)
        small = F.interpolate(video.float(), size=size, mode="bilinear", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, paths))


@dataclass(frozen=True, slots=True)
class Bank:
    """All frames of all clips of one size, on the device."""

    frames: Tensor
    """uint8 [N, 3, H, W]."""
    starts: Tensor
    lengths: Tensor

    @classmethod
    def build(cls, clips: list[Tensor], device: torch.device) -> Bank:
        lengths = torch.tensor([len(clip) for clip in clips])
        frames = torch.cat(clips).to(device)
        return cls(frames, (lengths.cumsum(0) - lengths).to(device), lengths.to(device))

    def draw(self, count: int) -> Tensor:
        """[B, 3, FRAMES, *SIZE] in [-1, 1]: random clips, times, places, half of them mirrored."""
        device = self.frames.device
        height, width = self.frames.shape[2:]

        def below(limit: Tensor | int) -> Tensor:
            return (torch.rand(count, 1, device=device) * limit).long()

        clip = below(len(self.starts))
        first = self.starts[clip] + below(self.lengths[clip] - FRAMES + 1)
        frame = first + torch.arange(FRAMES, device=device)
        row = below(height - SIZE[0] + 1) + torch.arange(SIZE[0], device=device)
        column = below(width - SIZE[1] + 1) + torch.arange(SIZE[1], device=device)
        column = torch.where(below(2) == 0, column, column.flip(-1))
        pieces = self.frames[
            frame[:, :, None, None], :, row[:, None, :, None], column[:, None, None]
        ]
        return _recoloured(pieces.permute(0, 4, 1, 2, 3).float() / 127.5 - 1)


def _recoloured(video: Tensor) -> Tensor:
    """Half of the pieces [B, 3, F, H, W] paler and in another light: most clips are rendered, and
    their colours are purer than those of films."""

    def between(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(len(video), channels, 1, 1, 1, device=video.device)

    grey = video.mean(1, keepdim=True)
    other = grey + between(0.2, 1.0) * (video - grey)
    other = ((other + 1) * between(0.6, 1.1) * between(0.9, 1.1, 3) - 1).clamp(-1, 1)
    return torch.where(between(0, 1) < 0.5, other, video)


def train(
    clips: list[Tensor],
    full_size: list[Tensor],
    seconds: float,
    device: torch.device,
    say: Callable[[str], None],
    start: dict[str, Tensor] | None = None,
    count: int = BATCH,
) -> VideoVAE_:
    """`seconds` of Muon, with a cosine schedule in time, on pieces of SIZE.

    Args:
        clips: at SIZE; `full_size`: the same in more pixels, so that the codec sees finer scales.
        start: weights to go on from.
    """
    torch.manual_seed(0)
    until = time.monotonic() + seconds
    vae = TinyVAE().model.train().requires_grad_(True)
    for module in vae.modules():  # start each residual branch at zero
        if hasattr(module, "residual"):
            nn.init.zeros_(module.residual[6].weight)
            nn.init.zeros_(module.residual[6].bias)
    if start is not None:
        vae.load_state_dict(start)
    vae.to(device)
    banks = [
        Bank.build([clip for clip in some if len(clip) >= FRAMES], device)
        for some in (clips, full_size)
    ]
    stepper = Stepper(vae, banks[0].draw(count))
    started, step, printed = time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - started) / (until - started)) < 1:
        warm = min(1, (step + 1) / 50)
        rate = RATE * warm * (0.01 + 0.99 * _cosine(share))
        stepper.step(banks[step % 2].draw(count), rate, step)
        step += 1
        if device.type == "cuda" and step % 10 == 0:
            torch.cuda.synchronize()
        if time.monotonic() - printed > 15:
            printed = time.monotonic()
            losses = " ".join(f"{name} {float(value):.4f}" for name, value in stepper.parts.items())
            say(f"vae {share:4.0%} step {step}: {losses}")
    say(f"vae: {step} steps")
    vae.load_state_dict(dict(zip(vae.state_dict(), stepper.average, strict=True)))
    vae.eval().requires_grad_(False)
    normalise(vae, clips, device)
    return vae


class Stepper:
    """One training step: on a GPU, recorded once and replayed, since kernels this small take less
    time than their launches.
    """

    def __init__(self, vae: VideoVAE_, video: Tensor) -> None:
        device = video.device
        self.vae = vae
        self.video = video.contiguous()
        self.parts: dict[str, Tensor] = {}
        self.optimizer = Muon(vae)
        self.average = [tensor.detach().clone() for tensor in vae.state_dict().values()]
        self.forget = torch.ones((), device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._record()

    def step(self, video: Tensor, rate: float, number: int) -> None:
        self.video.copy_(video)
        self.optimizer.rate.fill_(rate)
        self.forget.fill_(1 - min(0.998, number / (number + 20)))
        if self.graph is None:
            self._work()
        else:
            self.graph.replay()

    def _record(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # at rate 0: kernels and workspaces are chosen
                self._work()
        torch.cuda.current_stream().wait_stream(stream)
        self.vae.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._work()
        self.graph = graph

    def _work(self) -> None:
        self.vae.zero_grad(set_to_none=True)
        gpu = self.video.device.type == "cuda"
        with torch.autocast(self.video.device.type, torch.bfloat16, enabled=gpu):
            loss, self.parts = _loss(self.vae, self.video)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            for mean, tensor in zip(self.average, self.vae.state_dict().values(), strict=True):
                mean.lerp_(tensor, self.forget)


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1, share)))


def _loss(vae: VideoVAE_, video: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    mean, variance = whole_clip.encode(vae, video)
    mean, variance = mean.float(), variance.float().clamp(-20, 10)
    latents = mean + torch.randn_like(mean) * (0.5 * variance).exp()
    out = whole_clip.decode(vae, latents).float()
    with torch.autocast(video.device.type, enabled=False):
        error = out - video
        parts = {
            "l1": (error.square() + 1e-6).sqrt().mean(),
            "l2": error.square().mean(),
            "edges": torch.stack([error.diff(dim=dim).abs().mean() for dim in (-1, -2, -3)]).mean(),
            "blocks": F.avg_pool3d(error, (1, 8, 8)).abs().mean(),
            "ssim": 1 - _ssim(out, video),
            "kl": 0.5 * (mean.square() + variance.exp() - 1 - variance).mean(),
        }
    total = torch.stack([weight * parts[name] for name, weight in WEIGHTS.items()]).sum()
    return total, {name: part.detach() for name, part in parts.items()}


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of frames over 7x7 windows (Wang et al. 2004), range 2."""
    a, b = (x.transpose(1, 2).flatten(0, 1) for x in (a, b))
    mean_a, mean_b = F.avg_pool2d(a, 7, 1), F.avg_pool2d(b, 7, 1)
    var_a = F.avg_pool2d(a * a, 7, 1) - mean_a**2
    var_b = F.avg_pool2d(b * b, 7, 1) - mean_b**2
    cov = F.avg_pool2d(a * b, 7, 1) - mean_a * mean_b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return (top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


@torch.no_grad()
def normalise(vae: VideoVAE_, clips: list[Tensor], device: torch.device) -> None:
    """Fold into conv1 and conv2 what gives diffsynth's scaled latents mean 0 and variance 1."""
    scaling = TinyVAE()
    means = []
    for clip in clips[:: max(1, len(clips) // 256)]:
        means.append(whole_clip.encode(vae, _video(clip, device))[0].float().cpu())
    flat = torch.cat([mean.transpose(0, 1).flatten(1) for mean in means], 1)
    centre, spread = flat.mean(1), flat.std(1)
    ratio = (scaling.std / spread).to(device)
    shift = scaling.mean.to(device) - centre.to(device) * ratio
    channels = len(ratio)
    vae.conv1.weight[:channels] *= ratio.view(-1, 1, 1, 1, 1)
    vae.conv1.bias[:channels] = vae.conv1.bias[:channels] * ratio + shift
    vae.conv2.bias -= vae.conv2.weight[:, :, 0, 0, 0] @ (shift / ratio)
    vae.conv2.weight /= ratio.view(1, -1, 1, 1, 1)


def _video(clip: Tensor, device: torch.device) -> Tensor:
    """[1, 3, F, H, W] in [-1, 1], F cut to 4n+1 and FRAMES."""
    frames = min(FRAMES, (len(clip) - 1) // 4 * 4 + 1)
    return clip[:frames].to(device).transpose(0, 1)[None].float() / 127.5 - 1


@torch.no_grad()
def reconstruct(vae: VideoVAE_, clip: Tensor, device: torch.device) -> Tensor:
    """uint8 [F, 3, H, W] through the codec."""
    out = whole_clip.decode(vae, whole_clip.encode(vae, _video(clip, device))[0])
    return ((out[0].transpose(0, 1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def quality(clip: Tensor, out: Tensor) -> tuple[float, float]:
    """(PSNR in dB, SSIM) of a reconstruction."""
    a, b = clip[: len(out)].float(), out.float()
    error = float((a - b).square().mean())
    ssim = _ssim(*(x.transpose(0, 1)[None] / 127.5 - 1 for x in (a, b)))
    return 10 * math.log10(255**2 / max(error, 1e-9)), float(ssim)
