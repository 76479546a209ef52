"""What the weights of a release look like: names and shapes, compared by headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffsynth.core.loader.file import hash_state_dict_keys

from wan_runtime import model_parts
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models import layout, shapes
from wan_runtime.models.places import Volume
from wan_runtime.presets import PRESETS
from weight_files import header, sparse

WAN21, WAN22 = PRESETS["Wan2.1-I2V-14B-720P"], PRESETS["Wan2.2-I2V-A14B"]


@pytest.mark.parametrize(
    ("preset", "part", "known"),
    [
        (WAN21, "dit", "6bfcfb3b342cb286ce886889d519a77e"),
        (WAN22, "dit", "5b013604280dd715f8457c6ed6d6a626"),
        (WAN21, "text_encoder", "9c8818c2cbea55eca56c7b447df170da"),
        (WAN22, "vae", "ccc42284ea13e1ad04693284c7a09be6"),
    ],
)
def test_what_is_expected_is_what_diffsynth_knows_the_releases_by(
    preset: Any, part: str, known: str
) -> None:
    """The hash that its authors took of the released files, over every name and shape."""
    wanted = shapes.expected(preset, part)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in wanted.items()}
    assert hash_state_dict_keys(tensors) == known


def test_clip_is_expected_without_its_text_half() -> None:
    wanted = shapes.expected(WAN21, "image_encoder")
    assert wanted["visual.patch_embedding.weight"] == (1280, 3, 14, 14)
    held = {**wanted, "textual.token.weight": (250002, 1024), "textual.ids": (1, 77)}
    dtypes = {"textual.ids": "I64"}
    shapes.check(WAN21, "image_encoder", "x.pth", header(held, dtypes=dtypes))


def test_nothing_random_is_used_up() -> None:
    """It is made once in a process: a resumed run would draw other numbers than a whole one."""
    shapes.expected.cache_clear()
    torch.manual_seed(1)
    wanted = torch.rand(1)
    torch.manual_seed(1)
    shapes.expected(WAN21, "dit")
    assert torch.rand(1) == wanted


def released(folder: Path, **change: tuple[int, ...]) -> Path:
    """Wan2.2-I2V-A14B at its real names, shapes and sizes: 126 GB in a few blocks."""
    wanted = {**shapes.expected(WAN22, "dit"), **change}
    names = sorted(wanted)
    for expert in ("high_noise_model", "low_noise_model"):
        for number in range(6):
            part = {name: wanted[name] for name in names[number::6]}
            name = f"diffusion_pytorch_model-{number + 1:05d}-of-00006.safetensors"
            sparse(folder / expert / name, header(part))
        (folder / expert / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    for label, name in (("text_encoder", layout.TEXT_ENCODER[0]), ("vae", layout.VAE[0])):
        sparse(folder / name, header(shapes.expected(WAN22, label)))
    (folder / layout.TOKENIZER).mkdir(parents=True)
    for name in layout.TOKENIZER_FILES:
        (folder / name).write_text("{}")
    return folder


def check_all(folder: Path) -> None:
    place = Volume.list(folder)
    for part, files in layout.select(WAN22, place.sizes, str(folder)).items():
        if part != model_parts.TOKENIZER:
            shapes.check(WAN22, part.split("-")[0], ", ".join(files), place.headers(files))


def test_a_model_of_full_size_is_verified_by_its_headers(tmp_path: Path) -> None:
    folder = released(tmp_path / "wan22")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 60e9
    assert sum(path.stat().st_blocks * 512 for path in files) < 10e6
    check_all(folder)


def test_weights_of_another_model_are_told_by_name_and_shape(tmp_path: Path) -> None:
    folder = released(tmp_path / "wan22", **{"head.head.weight": (5120, 16), "extra.bias": (5,)})
    with pytest.raises(InputError, match="these are not the released weights") as caught:
        check_all(folder)
    assert caught.value.reason is Reason.MODEL_INVALID
    for text in (
        "1 tensors are not of this model (extra.bias)",
        "head.head.weight is [5120, 16], not [64, 5120]",
    ):
        assert text in caught.value.message
