"""A transformer of Wan2.1-I2V-14B's shapes whose blocks come from host memory as they compute,
under a cap of memory, beside the same one that is resident: seconds of a pass, memory, and whether
the bits are the same. And the VAE's decoder under the cap.

    PYTHONPATH=runtime:tests python tests/gpu/stream_14b.py --cap 24 --out rows.json

Random weights. `--small` is the dry run, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from diffsynth.models.wan_video_vae import WanVideoVAE

from gpu.forward_14b import LARGE, SMALL, VIDEO, draw, inputs
from wan_runtime.models import offload
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.vae_decoder import Decoder

SIZES = {"1280x720": VIDEO, "832x480": (21, 60, 104)}
"""Latent frames, rows and columns of 81 frames."""
TIMES = 3
"""Passes, of which the first compiles or starts the stream."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cap", type=float, default=24.0, help="GiB of the GPU that may be used")
    parser.add_argument("--small", action="store_true", help="a few tokens, on a CPU")
    options = parser.parse_args()
    device = torch.device("cpu" if options.small else "cuda")
    dtype = torch.float32 if options.small else torch.bfloat16
    sizes = {"small": (2, 8, 8)} if options.small else SIZES
    module = draw(SMALL if options.small else LARGE, device, dtype)
    resident = Transformer(module, device, dtype, profile="Lossless")
    wanted = {name: timed(resident, latent) for name, latent in sizes.items()}
    began = time.monotonic()
    streamed = Transformer(module, device, dtype, profile="Lossless", streamed=True)
    rows: list[dict[str, Any]] = [{"capGiB": options.cap, "moved": time.monotonic() - began}]
    if device.type == "cuda":
        torch.cuda.empty_cache()
        whole = torch.cuda.mem_get_info()[1] / 2**30
        torch.cuda.set_per_process_memory_fraction(options.cap / whole)
    for name, latent in sizes.items():
        streamed.bring()
        facts, velocity = timed(streamed, latent)
        before, other = wanted[name]
        row = {"size": name, "resident": before, "streamed": facts}
        row["slower"] = round(facts["seconds"] / before["seconds"] - 1, 4)
        rows.append(row | {"equal": torch.equal(velocity, other)})
        print(json.dumps(rows[-1]), flush=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    streamed.leave()
    if not options.small:
        rows.append({"decode": decoded(device), "refused": refused(device)})
        print(json.dumps(rows[-1]), flush=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


@torch.no_grad()
def timed(transformer: Transformer, latent: tuple[int, int, int]) -> tuple[dict[str, Any], Any]:
    conditions, noisy = inputs(transformer, latent)
    cuda = transformer.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds, velocity = [], None
    began = time.monotonic()
    going = transformer.begin(conditions)
    for _ in range(TIMES):
        velocity = going.velocity(noisy, torch.tensor([0.5])).cpu()
        seconds.append(round(time.monotonic() - began, 3))
        began = time.monotonic()
    peak = torch.cuda.max_memory_reserved() / 2**30 if cuda else 0.0
    facts = {"first": seconds[0], "seconds": min(seconds[1:]), "peakGiB": round(peak, 1)}
    return facts, velocity


def refused(device: torch.device) -> bool:
    """Whether memory that CUDA does not lock harms nothing that comes after."""
    block = torch.empty(2**26, dtype=torch.uint8)
    assert offload._lock(block, device)
    locked = offload._lock(block, device)  # twice, which CUDA refuses
    sound = float(torch.ones(8, device=device).sum()) == 8
    offload._unlock(block)
    return sound and not locked


def decoded(device: torch.device) -> dict[str, float]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    vae = WanVideoVAE().to(device, torch.bfloat16).eval().requires_grad_(False)
    decoder, latents = Decoder(vae, compiled=True), torch.randn(1, 16, *VIDEO).to(device)
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        decoder.frames(latents.bfloat16(), alone())
        seconds.append(round(time.monotonic() - began, 3))
    peak = torch.cuda.max_memory_reserved() / 2**30
    return {"seconds": seconds[-1], "peakGiB": round(peak, 1)}


if __name__ == "__main__":
    main()
