"""Metrics by networks, with weights at random: what they compute, and what they say without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import alexnet
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from scored_clips import film, lossless, noisy
from wan_runtime.evaluation.metrics.perceptual import BACKBONE, CLIP_FILES, HEADS
from wan_runtime.evaluation.metrics.score import Mounted, score_clip

LPIPS = 0.015247154670457045
"""Mean over frames 1 to 3 by lpips 0.1.4 with the weights below."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return lossless(folder / "a.mkv", noisy(film(4))), lossless(folder / "b.mkv", film(4))


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Mounted:
    folder = tmp_path_factory.mktemp("weights")
    with torch.device("meta"):
        shapes = {name: each.shape for name, each in alexnet().features.state_dict().items()}
    torch.manual_seed(0)
    weights = {f"features.{name}": torch.randn(shape) / 20 for name, shape in shapes.items()}
    torch.save(weights, folder / BACKBONE)
    channels = (64, 192, 384, 256, 256)
    heads = {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(channels)}
    torch.save(heads, folder / HEADS)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16, projection_dim=16,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    size = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32}}
    CLIPImageProcessor(**size).save_pretrained(folder)
    return Mounted(lpips=folder, clip=folder)


def test_distances_are_those_of_lpips(pair: tuple[Path, Path], mounted: Mounted) -> None:
    found = score_clip(*pair, metrics=["lpips"], mounted=mounted)
    assert found.scores["lpips"].value == pytest.approx(LPIPS, rel=1e-4)
    assert {"torch", "torchvision"} <= found.versions.keys()
    same = score_clip(pair[0], pair[0], metrics=["lpips"], mounted=mounted)
    assert same.scores["lpips"].value == 0


def test_similarities_are_those_of_transformers(pair: tuple[Path, Path], mounted: Mounted) -> None:
    found = score_clip(*pair, metrics=["clip_similarity"], mounted=mounted)
    folder = str(mounted.clip)
    prepare = CLIPImageProcessor.from_pretrained(folder)
    model = CLIPVisionModelWithProjection.from_pretrained(folder)
    pictures = [film(1)[0], *noisy(film(4))[1:]]
    with torch.inference_mode():
        pixels = prepare(images=pictures, return_tensors="pt")["pixel_values"]
        embeds = torch.nn.functional.normalize(model(pixels).image_embeds)
    expected = float(np.mean([float(embeds[0] @ each) for each in embeds[1:]]))
    assert found.scores["clip_similarity"].value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", [BACKBONE, HEADS, *CLIP_FILES])
def test_weights_that_are_not_there_or_damaged_are_a_named_skip(
    pair: tuple[Path, Path], mounted: Mounted, tmp_path: Path, name: str
) -> None:
    assert mounted.lpips is not None
    for file in mounted.lpips.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / name).unlink()
    metric = "clip_similarity" if name in CLIP_FILES else "lpips"
    spoiled = Mounted(lpips=tmp_path, clip=tmp_path)
    gone = score_clip(*pair, metrics=[metric], mounted=spoiled).scores[metric]
    assert gone.reason == "NotMounted"
    assert f"{name} is not in" in gone.message
    (tmp_path / name).write_text("neither weights nor JSON")
    damaged = score_clip(*pair, metrics=[metric], mounted=spoiled).scores[metric]
    assert damaged.reason == "NotMounted"
    assert "damaged" in damaged.message
