"""What a worker says of an adapter that it can use."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import save_file

from wan_runtime.contract.service import AdapterSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.applied import AdapterFile, AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.changes import ZERO
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.serving.worker.adapter_checks import Checks

LAYER = "blocks.0.self_attn.q"
KEY = f"diffusion_model.{LAYER}"


class Fetched:
    """A file that is there."""

    def __init__(self, path: Path) -> None:
        file = AdapterFile(path=str(path), address="s3://wan/a.safetensors")
        self.use = AppliedAdapter(name="a", files={Expert.ONLY: file}, strength=1.0)

    def apply(self, *_: object) -> AppliedAdapter:
        return self.use


@pytest.mark.parametrize(
    ("b", "more", "said"),
    [
        (0.0, {}, ZERO),
        (1.0, {}, ""),
        (1.0, {f"{KEY}.alpha": torch.tensor(0.0)}, ZERO),
        (0.0, {f"{KEY}.diff_b": torch.ones(4)}, ""),
    ],
    ids=["B", "trained", "alpha", "difference"],
)
def test_one_that_changes_nothing_is_named(
    tmp_path: Path, b: float, more: dict[str, torch.Tensor], said: str
) -> None:
    path = tmp_path / "a.safetensors"
    factors = {"lora_up": torch.full((4, 2), b), "lora_down": torch.ones(2, 4)}
    save_file({f"{KEY}.{name}.weight": each for name, each in factors.items()} | more, path)
    checks = Checks(cast(AdapterFiles, Fetched(path)), AdapterCache(2**20, torch.float32), {})
    checks._shapes = {
        Expert.ONLY: {f"{LAYER}.weight": torch.Size((4, 4)), f"{LAYER}.bias": torch.Size((4,))}
    }
    note = checks.first(AdapterSpec(name="a", files={Expert.ONLY: "s3://wan/a.safetensors"}))
    assert (note.ready, note.message) == (True, said)
