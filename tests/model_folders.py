"""Folders of base models, for tests that spoil them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models.examine import examine
from wan_runtime.models.places import Volume
from wan_runtime.presets import Preset

DIT = "diffusion_pytorch_model.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9953000000\n"


def refusal(preset: Preset, folder: Path, reason: Reason = Reason.MODEL_NOT_FOUND) -> str:
    with pytest.raises(InputError) as caught:
        examine(preset, Volume.list(folder))
    assert caught.value.reason is reason, caught.value.message
    assert len(caught.value.message) < 2000
    return caught.value.message
