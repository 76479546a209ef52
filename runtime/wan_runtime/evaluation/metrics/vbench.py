"""Dimensions of VBench (Huang et al. 2024) by its definitions: all frames count, the first too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wan_runtime.contract.metric_names import MetricName
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.perceptual import clip_encoder, files_of, on_device, readable
from wan_runtime.evaluation.metrics.scorer import Mean, start_of, too_short

if TYPE_CHECKING:
    import torch

SIDE = 224
"""Pixels of the shorter side that the networks see."""
WIDER = 256
"""Pixels of the shorter side of what the centre is cut from, beside a picture."""
CLIP_COLOURS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DINO_COLOURS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue, as the networks were trained."""
FULL_MARK = 10.0
"""Best mark of the aesthetic predictor."""


class VbenchTemporalFlickering(Mean):
    """One minus the mean absolute difference of neighbouring frames, over 255."""

    def __init__(self) -> None:
        super().__init__(_change)

    def value(self) -> float:
        """Between 0 and 1. Raises NoScore(TooShort)."""
        return 1 - super().value() / 255


def _change(pair: Pair) -> float:
    now = pair.candidate
    assert now.before is not None
    return float(cv2.absdiff(now.rgb, now.before.rgb).mean())


class _Consistency(Mean):
    """Mean of the cosines between the features of a frame and those of the frame before and of the
    first, negative ones as 0."""

    def __init__(self, network: Clip | Dino) -> None:
        super().__init__(self._cosine, first=True)
        self._network = network
        self._start: torch.Tensor | None = None
        self._before: torch.Tensor | None = None

    def _cosine(self, pair: Pair) -> float | None:
        found, before = self._network.features(pair.candidate), self._before
        self._before = found
        if self._start is None or before is None:
            self._start = found
            return None
        cosines = (float((found * each).sum()) for each in (before, self._start))
        return sum(max(0.0, each) for each in cosines) / 2


class VbenchSubjectConsistency(_Consistency):
    """Consistency of DINO's features."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        super().__init__(Dino("vbench_subject_consistency", folder))


class VbenchI2vSubject:
    """Agreement of the subject with the picture that the clip starts from, and from frame to frame:
    the largest cosine with that picture, and the mean and the smallest one of neighbours."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        self._network = Dino("vbench_i2v_subject", folder)
        self._start: torch.Tensor | None = None
        self._before: torch.Tensor | None = None
        self._largest = 0.0
        self._neighbours: list[float] = []

    def add(self, pair: Pair) -> None:
        """Compare a frame, the first one too. Raises NoScore(NoFirstFrame)."""
        start = start_of(pair)
        if self._start is None:
            picture = Image.fromarray(start.rgb)
            self._start = self._network.seen(cut_of(picture, DINO_COLOURS))
        found = self._network.seen(cut_of(pair.candidate.rgb, DINO_COLOURS))
        self._largest = max(self._largest, float((found * self._start).sum()))
        if self._before is not None:
            self._neighbours.append(max(0.0, float((found * self._before).sum())))
        self._before = found

    def value(self) -> float:
        """Between 0 and 1. Raises NoScore(TooShort)."""
        if not self._neighbours:
            raise too_short()
        mean = sum(self._neighbours) / len(self._neighbours)
        return 0.4 * self._largest + 0.3 * mean + 0.3 * min(self._neighbours)

    def close(self) -> None:
        """Nothing is open."""


class VbenchBackgroundConsistency(_Consistency):
    """Consistency of CLIP's features."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        super().__init__(Clip("vbench_background_consistency", folder))


class VbenchAestheticQuality(Mean):
    """Mean mark of LAION's aesthetic predictor, over its best one."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        import torch

        super().__init__(self._mark, first=True)
        self._network = Clip("vbench_aesthetic_quality", folder)
        files = self._network.files
        with readable(files):
            head = torch.load(files[-1], map_location="cpu", weights_only=True)
            self._weight, self._bias = head["weight"][0].float(), float(head["bias"])

    def _mark(self, pair: Pair) -> float:
        found = self._network.features(pair.candidate)[0].cpu()
        return float(found @ self._weight) + self._bias

    def value(self) -> float:
        """About 0 to 1. Raises NoScore(TooShort)."""
        return super().value() / FULL_MARK


class Clip:
    """CLIP's image encoder."""

    def __init__(self, metric: MetricName, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        self.files = files_of(metric, folder)
        self._model = clip_encoder(self.files)

    def features(self, frame: Frame) -> torch.Tensor:
        """[1, D], of length 1, of the centre square."""
        import torch

        with torch.inference_mode():
            pixels = pixels_of(frame, CLIP_COLOURS, cubic=True, square=True)
            found: torch.Tensor = self._model(pixels.to(self._model.device)).image_embeds
            return torch.nn.functional.normalize(found)


class Dino:
    """DINO's ViT-B/16 (Caron et al. 2021), without its head."""

    def __init__(self, metric: MetricName, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        files = files_of(metric, folder)
        from transformers import ViTModel

        with readable(files):
            model: Any = ViTModel.from_pretrained(
                str(files[0].parent), add_pooling_layer=False, local_files_only=True
            )
            self._model = on_device(model)

    def features(self, frame: Frame) -> torch.Tensor:
        """[1, D], of length 1, of the whole picture."""
        return self.seen(pixels_of(frame, DINO_COLOURS, cubic=False, square=False))

    def seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """[1, D], of length 1. `pixels`: [1, 3, H, W]."""
        import torch

        with torch.inference_mode():
            out = self._model(pixels.to(self._model.device), interpolate_pos_encoding=True)
            found: torch.Tensor = out.last_hidden_state[:, 0]
            return torch.nn.functional.normalize(found)


def pixels_of(
    frame: Frame, colours: tuple[tuple[float, ...], tuple[float, ...]], *, cubic: bool, square: bool
) -> torch.Tensor:
    """[1, 3, H, W], scaled to 224 pixels at the shorter side as VBench does: without smoothing."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as scaling

    mode = InterpolationMode.BICUBIC if cubic else InterpolationMode.BILINEAR
    pixels = torch.from_numpy(frame.rgb.copy()).permute(2, 0, 1)[None]
    pixels = scaling.resize(pixels, SIDE, interpolation=mode, antialias=False)
    if square:
        pixels = scaling.center_crop(pixels, [SIDE, SIDE])
    mean, deviation = ([*each] for each in colours)
    normal: torch.Tensor = scaling.normalize(pixels.float() / 255, mean, deviation)
    return normal


def cut_of(
    picture: Image.Image | NDArray[np.uint8], colours: tuple[tuple[float, ...], tuple[float, ...]]
) -> torch.Tensor:
    """[1, 3, 224, 224]: the centre, at 256 pixels of the shorter side. As in VBench's comparison
    with a picture, Pillow's are smoothed as they are made smaller, and arrays [H, W, 3] are not."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as scaling

    cubic = InterpolationMode.BICUBIC
    if isinstance(picture, Image.Image):
        small = np.asarray(scaling.resize(picture, WIDER, interpolation=cubic))
        pixels = torch.from_numpy(small.copy()).permute(2, 0, 1)[None]
    else:
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
        pixels = scaling.resize(pixels, WIDER, interpolation=cubic, antialias=False)
    mean, deviation = ([*each] for each in colours)
    cut = scaling.center_crop(pixels, [SIDE, SIDE])
    normal: torch.Tensor = scaling.normalize(cut.float() / 255, mean, deviation)
    return normal
