"""Metrics by networks, with weights at random: what they compute, and what they say without."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import alexnet
from torchvision.models.optical_flow import raft_large
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    PILToTensor,
    Resize,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    ViTConfig,
    ViTModel,
)

from scored_clips import film, lossless, noisy
from wan_runtime.contract.metric_names import METRICS, MetricName
from wan_runtime.evaluation.metrics import dynamic
from wan_runtime.evaluation.metrics.dynamic import VbenchDynamicDegree
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.score import Mounted, score_clip
from wan_runtime.evaluation.metrics.unscored import NoScore

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LPIPS = 0.015247154670457045
"""Mean over frames 1 to 3 by lpips 0.1.4 with the weights below."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return lossless(folder / "a.mkv", noisy(film(4))), lossless(folder / "b.mkv", film(4))


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Mounted:
    weights = tmp_path_factory.mktemp("weights")
    for name in ("raft", "lpips", "clip", "clip-vit-base-patch32", "clip-vit-large-patch14"):
        (weights / name).mkdir()
    with torch.device("meta"):
        shapes = {name: each.shape for name, each in alexnet().features.state_dict().items()}
    torch.manual_seed(0)
    convolutions = {f"features.{name}": torch.randn(shape) / 20 for name, shape in shapes.items()}
    torch.save(convolutions, weights / "lpips" / "alexnet-owt-7be5be79.pth")
    channels = (64, 192, 384, 256, 256)
    heads = {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(channels)}
    torch.save(heads, weights / "lpips" / "alex.pth")
    small = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "patch_size": 16,
    }  # fmt: skip
    clip = CLIPVisionConfig(image_size=32, projection_dim=16, **small)
    CLIPVisionModelWithProjection(clip).save_pretrained(weights / "clip")
    size = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32}}
    CLIPImageProcessor(**size).save_pretrained(weights / "clip")
    of_224 = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=16, **small))
    for name in ("clip-vit-base-patch32", "clip-vit-large-patch14"):
        of_224.save_pretrained(weights / name)
    head = {"weight": torch.randn(1, 16), "bias": torch.tensor([5.0])}
    torch.save(head, weights / "clip-vit-large-patch14" / "sa_0_4_vit_l_14_linear.pth")
    dino = ViTModel(ViTConfig(**small), add_pooling_layer=False)
    dino.save_pretrained(weights / "dino-vitb16")
    torch.save(raft_large().state_dict(), weights / "raft" / "raft_large_C_T_V1-22a6c225.pth")
    return Mounted(weights=weights)


def test_distances_are_those_of_lpips(pair: tuple[Path, Path], mounted: Mounted) -> None:
    found = score_clip(*pair, metrics=["lpips"], mounted=mounted)
    assert found.scores["lpips"].value == pytest.approx(LPIPS, rel=1e-4)
    assert {"torch", "torchvision"} <= found.versions.keys()
    same = score_clip(pair[0], pair[0], metrics=["lpips"], mounted=mounted)
    assert same.scores["lpips"].value == 0


def test_similarities_are_those_of_transformers(pair: tuple[Path, Path], mounted: Mounted) -> None:
    found = score_clip(*pair, metrics=["clip_similarity"], mounted=mounted)
    folder = str(mounted.folder("clip_similarity"))
    prepare = CLIPImageProcessor.from_pretrained(folder)
    model = CLIPVisionModelWithProjection.from_pretrained(folder)
    pictures = [film(1)[0], *noisy(film(4))[1:]]
    with torch.inference_mode():
        pixels = prepare(images=pictures, return_tensors="pt")["pixel_values"]
        embeds = torch.nn.functional.normalize(model(pixels).image_embeds)
    expected = float(np.mean([float(embeds[0] @ each) for each in embeds[1:]]))
    assert found.scores["clip_similarity"].value == pytest.approx(expected, abs=1e-5)


def test_dimensions_of_vbench_are_by_its_definitions(
    pair: tuple[Path, Path], mounted: Mounted
) -> None:
    """Each computed here from the pictures, as its paper and its code have it."""
    names: list[MetricName] = [name for name in METRICS if name.startswith("vbench_")]
    found = {name: each.value for name, each in
             score_clip(*pair, metrics=names, mounted=mounted).scores.items()}  # fmt: skip
    pictures = np.stack(noisy(film(4)))
    steps = np.abs(np.diff(pictures.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert found["vbench_temporal_flickering"] == pytest.approx(1 - steps.mean() / 255)

    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    scaled = Resize(224, InterpolationMode.BICUBIC, antialias=False)
    clip_input = Compose([scaled, CenterCrop(224), lambda x: x / 255, Normalize(*CLIP)])(batch)
    whole = Compose([Resize(224, antialias=False), lambda x: x / 255, Normalize(*IMAGENET)])
    assert mounted.weights is not None
    clip = CLIPVisionModelWithProjection.from_pretrained(mounted.weights / "clip-vit-base-patch32")
    dino = ViTModel.from_pretrained(mounted.weights / "dino-vitb16", add_pooling_layer=False)
    with torch.inference_mode():
        seen = torch.nn.functional.normalize(clip(clip_input).image_embeds)
        subject = dino(whole(batch), interpolate_pos_encoding=True).last_hidden_state[:, 0]
    head = torch.load(
        mounted.weights / "clip-vit-large-patch14" / "sa_0_4_vit_l_14_linear.pth", weights_only=True
    )
    marks = torch.nn.functional.linear(seen, head["weight"], head["bias"]) / 10
    assert found["vbench_aesthetic_quality"] == pytest.approx(float(marks.mean()), abs=1e-5)
    for name, features in (("background", seen), ("subject", subject)):
        cosine = torch.cosine_similarity(features[1:], features[:-1])
        first = torch.cosine_similarity(features[1:], features[:1])
        expected = float((cosine.clamp(min=0) + first.clamp(min=0)).mean() / 2)
        value = found[f"vbench_{name}_consistency"]
        assert value == pytest.approx(expected, abs=1e-5), name

    cubic = InterpolationMode.BICUBIC
    tail = [CenterCrop(224), lambda x: x / 255, Normalize(*IMAGENET)]
    start = Compose([Resize(256, cubic), PILToTensor(), *tail])(Image.fromarray(film(1)[0]))
    rest = Compose([Resize(256, cubic, antialias=False), *tail])(batch)
    with torch.inference_mode():
        first, *subjects = dino(torch.cat([start[None], rest])).last_hidden_state[:, 0]
    largest = max(float(torch.cosine_similarity(first, each, dim=0)) for each in subjects)
    steps = torch.cosine_similarity(torch.stack(subjects[1:]), torch.stack(subjects[:-1]))
    expected = 0.4 * largest + 0.3 * float(steps.mean()) + 0.3 * float(steps.min())
    assert found["vbench_i2v_subject"] == pytest.approx(expected, abs=1e-5)
    assert found["vbench_dynamic_degree"] is None, "128 pixels are needed"


def shown(numbers: Iterable[int], fps: float, height: int = 130) -> list[Pair]:
    """Pairs of a film at these places of the timeline."""
    pictures = film(9, height, 160)
    return [Pair(number, Frame(pictures[number % 9]), None, None, fps) for number in numbers]


def test_speeds_are_those_of_the_fastest_pixels_by_raft(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = VbenchDynamicDegree(mounted.folder("vbench_dynamic_degree"))
    speeds: list[float] = []
    measure = scorer._speed
    monkeypatch.setattr(scorer, "_speed", lambda *pair: speeds.append(measure(*pair)) or speeds[-1])
    one, other = shown([0, 3], fps=25)
    scorer.add(one)
    scorer.add(shown([2], fps=25)[0])  # between two that are looked at
    scorer.add(other)
    model = raft_large().eval()
    assert mounted.weights is not None
    model.load_state_dict(torch.load(mounted.weights / "raft" / "raft_large_C_T_V1-22a6c225.pth"))
    padded = [
        np.pad(each.candidate.rgb, ((3, 3), (0, 0), (0, 0)), mode="edge") for each in (one, other)
    ]
    batch = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.inference_mode():
        flow = model(batch[:1], batch[1:], num_flow_updates=20)[-1][0]
    lengths = np.sort(flow.norm(dim=0).flatten().numpy())
    assert speeds == [pytest.approx(float(lengths[-int(len(lengths) * 0.05) :].mean()), rel=1e-3)]


def test_large_pictures_wait_for_a_gpu(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take so long that the clip's time runs out, and all its metrics with it."""
    less = dynamic.DEFINITION.model_copy(update={"most_without_gpu": 130 * 160 - 1})
    monkeypatch.setattr(dynamic, "DEFINITION", less)
    scorer = VbenchDynamicDegree(mounted.folder("vbench_dynamic_degree"))
    with pytest.raises(NoScore) as none:
        scorer.add(shown([0], fps=8)[0])
    assert none.value.reason == "NotMounted"
    assert none.value.message == "RAFT needs a GPU for pictures of 160x130: set scoreOnGpu"


@pytest.mark.parametrize(
    ("fps", "speeds", "value"),
    [
        (8, [3.1] * 4 + [0] * 11, 1),
        (8, [3.1] * 3 + [0] * 12, 0),
        (8, [3.0] * 15, 0),
        (16, [3.1] * 2 + [0] * 6, 1),
        (16, [3.1] * 1 + [0] * 6, 0),
    ],
    ids=["a quarter", "less", "slower", "every second frame", "less of them"],
)
def test_a_clip_moves_if_a_quarter_of_its_frames_do(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch, fps: float, speeds: list[float], value: int
) -> None:
    """6 pixels of 256 are 3 of 128."""
    scorer = VbenchDynamicDegree(mounted.folder("vbench_dynamic_degree"))
    left = iter(speeds)
    monkeypatch.setattr(scorer, "_speed", lambda *_: next(left))
    for pair in shown(range((len(speeds) + 1) * round(fps / 8)), fps, height=128):
        scorer.add(pair)
    assert [*left] == []
    assert scorer.value() == value


NEEDING = {name: each.weights for name, each in METRICS.items() if each.weights is not None}


@pytest.mark.parametrize(
    ("metric", "file"), [(name, file) for name, each in NEEDING.items() for file in each.files]
)
def test_weights_that_are_not_there_or_damaged_are_a_named_skip(
    pair: tuple[Path, Path], mounted: Mounted, tmp_path: Path, metric: MetricName, file: str
) -> None:
    source = mounted.folder(metric)
    assert source is not None
    folder = tmp_path / source.name
    folder.mkdir()
    for each in source.iterdir():
        (folder / each.name).symlink_to(each)
    (folder / file).unlink()
    spoiled = Mounted(weights=tmp_path)
    gone = score_clip(*pair, metrics=[metric], mounted=spoiled).scores[metric]
    assert gone.reason == "NotMounted"
    assert f"{file} is not in" in gone.message
    (folder / file).write_text("neither weights nor JSON")
    damaged = score_clip(*pair, metrics=[metric], mounted=spoiled).scores[metric]
    assert damaged.reason == "NotMounted"
    assert "damaged" in damaged.message
