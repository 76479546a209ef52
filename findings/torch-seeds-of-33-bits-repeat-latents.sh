#!/usr/bin/env bash
# PyTorch 2.15.0, as diffusers 0.42.1 draws the latents of a Wan video on the CPU: seeds that differ by a multiple of 2**32
# give the same noise, bit for bit, and so the same video. `manual_seed` takes 64 bits, `initial_seed` gives them back, and
# nothing is said: the CPU's generator reads the lower 32. Guessed: another seed is another video, as long as it is taken.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.15.0
"$folder/venv/bin/python" - 2>&1 <<'PY'
import diffusers
import torch
from diffusers.utils.torch_utils import randn_tensor


def latents(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    assert generator.initial_seed() == seed
    return randn_tensor((1, 16, 3, 8, 8), generator=generator)


first = latents(7)
same = {f"7 + 2**{bits}": torch.equal(first, latents(7 + 2**bits)) for bits in (31, 32, 40, 62)}
print(f"PyTorch {torch.__version__}, diffusers {diffusers.__version__}")
print(f"latents equal to those of seed 7: {same}")
assert same == {
    "7 + 2**31": False,
    "7 + 2**32": True,
    "7 + 2**40": True,
    "7 + 2**62": True,
}, "the behaviour has changed"
PY
