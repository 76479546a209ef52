"""Metrics by networks whose weights are mounted. torch is imported once one is at work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_runtime.contract.metric_names import METRICS, MetricName
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.scorer import Mean, reference_of, start_of
from wan_runtime.evaluation.metrics.unscored import NoScore

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

SLICES = (2, 5, 8, 10, 12)
"""Layers of AlexNet after which features are compared."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
TINY = 1e-10


class Lpips(Mean):
    """Learned perceptual distance, version 0.1 on AlexNet (Zhang et al. 2018)."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        super().__init__(self._distance)
        files = files_of("lpips", folder)
        import torch
        from torchvision.models import alexnet

        self._device = _device()
        with readable(files):
            with torch.device("meta"):
                features = alexnet(weights=None).features
            weights = torch.load(files[0], map_location="cpu", weights_only=True)
            kept = {name: each for name, each in weights.items() if name.startswith("features.")}
            features.load_state_dict(
                {name.removeprefix("features."): each for name, each in kept.items()}, assign=True
            )
            self._layers = on_device(features)
            heads = torch.load(files[1], map_location="cpu", weights_only=True)
            self._heads = [
                heads[f"lin{number}.model.1.weight"].to(self._device)
                for number in range(len(SLICES))
            ]

    def _distance(self, pair: Pair) -> float:
        import torch

        with torch.inference_mode():
            both = torch.cat([self._input(pair.candidate), self._input(reference_of(pair))])
            total = 0.0
            for number, layer in enumerate(self._layers, 1):
                both = layer(both)
                if number in SLICES:
                    unit = both / (both.square().sum(dim=1, keepdim=True).sqrt() + TINY)
                    apart = (unit[:1] - unit[1:]).square()
                    weighted = apart * self._heads[SLICES.index(number)]
                    total += float(weighted.sum(dim=1).mean())
                if number == SLICES[-1]:
                    break
        return total

    def _input(self, frame: Frame) -> torch.Tensor:
        """[1, 3, H, W]"""
        import torch

        pixels = torch.from_numpy(frame.rgb.copy()).to(self._device).permute(2, 0, 1)[None]
        shift, scale = (
            torch.tensor(each, device=self._device).view(1, 3, 1, 1) for each in (SHIFT, SCALE)
        )
        return (pixels.float() / 127.5 - 1 - shift) / scale


class ClipSimilarity(Mean):
    """Cosine between CLIP's embeddings of a frame and of the start."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        super().__init__(self._similarity)
        files = files_of("clip_similarity", folder)
        from transformers import CLIPImageProcessor

        with readable(files):
            self._prepare: Any = CLIPImageProcessor.from_pretrained(
                str(files[0].parent), local_files_only=True
            )
        self._model = clip_encoder(files)
        self._start: torch.Tensor | None = None

    def _similarity(self, pair: Pair) -> float:
        if self._start is None:
            self._start = self._embedding(start_of(pair))
        return float((self._embedding(pair.candidate) * self._start).sum())

    def _embedding(self, frame: Frame) -> torch.Tensor:
        """[1, D], of length 1."""
        import torch

        with torch.inference_mode():
            pixels = self._prepare(images=frame.rgb, return_tensors="pt")["pixel_values"]
            found: torch.Tensor = self._model(pixels.to(self._model.device)).image_embeds
            return torch.nn.functional.normalize(found)


def files_of(metric: MetricName, folder: Path | None) -> list[Path]:
    """Files of a metric's weights in their folder. Raises NoScore(NotMounted)."""
    definition = METRICS[metric]
    assert definition.weights is not None
    what = definition.mounted
    if folder is None:
        raise NoScore("NotMounted", f"{what} are not mounted")
    files = [folder / name for name in definition.weights.files]
    for file in files:
        if not file.is_file():
            raise NoScore("NotMounted", f"{what} are not complete: {file.name} is not in {folder}")
    return files


@contextmanager
def readable(files: list[Path]) -> Iterator[None]:
    """What a library makes of damaged or other weights becomes NoScore(NotMounted)."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        log.exception("weights in %s", files[0].parent)
        text = f"{files[0].parent} holds other weights, or damaged ones: the log says more"
        raise NoScore("NotMounted", text) from error


def clip_encoder(files: list[Path]) -> Any:
    """CLIP's image encoder, by the files of its weights. Raises NoScore(NotMounted)."""
    from transformers import CLIPVisionModelWithProjection

    with readable(files):
        source = str(files[0].parent)
        model: Any = CLIPVisionModelWithProjection.from_pretrained(source, local_files_only=True)
        return on_device(model)


def on_device(model: Any) -> Any:
    """The network where it computes, for use alone."""
    return model.eval().requires_grad_(False).to(_device())


def gpu() -> str:
    """Name of the GPU that networks compute on; empty: none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
