"""Dimensions of VBench (Huang et al. 2024) by its definitions: all frames count, the first too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.perceptual import files_of, on_device, readable
from wan_runtime.evaluation.metrics.scorer import too_short

if TYPE_CHECKING:
    import torch

SIDE = 224
"""Pixels of the shorter side that the networks see."""
CLIP_COLOURS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DINO_COLOURS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue, as the networks were trained."""
HEAD = "sa_0_4_vit_l_14_linear.pth"
FULL_MARK = 10.0
"""Best mark of the aesthetic predictor."""


class VbenchTemporalFlickering:
    """One minus the mean absolute difference of neighbouring frames, over 255."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, pair: Pair) -> None:
        """Take a frame."""
        now = pair.candidate
        if now.before is not None:
            self._total += float(cv2.absdiff(now.rgb, now.before.rgb).mean())
            self._count += 1

    def value(self) -> float:
        """Between 0 and 1. Raises NoScore(TooShort)."""
        if not self._count:
            raise too_short()
        return 1 - self._total / self._count / 255

    def close(self) -> None:
        """Nothing is open."""


class _Consistency:
    """Mean of the cosines between the features of a frame and those of the frame before and of the
    first, negative ones as 0."""

    def __init__(self, network: Clip | Dino) -> None:
        self._network = network
        self._first: torch.Tensor | None = None
        self._before: torch.Tensor | None = None
        self._total, self._count = 0.0, 0

    def add(self, pair: Pair) -> None:
        """Take a frame."""
        found = self._network.features(pair.candidate)
        if self._first is None or self._before is None:
            self._first = found
        else:
            cosines = (float((found * each).sum()) for each in (self._before, self._first))
            self._total += sum(max(0.0, each) for each in cosines) / 2
            self._count += 1
        self._before = found

    def value(self) -> float:
        """Between 0 and 1. Raises NoScore(TooShort)."""
        if not self._count:
            raise too_short()
        return self._total / self._count

    def close(self) -> None:
        """Nothing is open."""


class VbenchSubjectConsistency(_Consistency):
    """Consistency of DINO's features."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        super().__init__(Dino(folder))


class VbenchBackgroundConsistency(_Consistency):
    """Consistency of CLIP's features."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        super().__init__(Clip("vbench_background_consistency", folder))


class VbenchAestheticQuality:
    """Mean mark of LAION's aesthetic predictor, over its best one."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        import torch

        self._network = Clip("vbench_aesthetic_quality", folder)
        files = files_of("vbench_aesthetic_quality", folder)
        with readable(files):
            head = torch.load(files[-1], map_location="cpu", weights_only=True)
            self._weight, self._bias = head["weight"][0].float(), float(head["bias"])
        self._total, self._count = 0.0, 0

    def add(self, pair: Pair) -> None:
        """Take a frame."""
        found = self._network.features(pair.candidate)[0].cpu()
        self._total += float(found @ self._weight) + self._bias
        self._count += 1

    def value(self) -> float:
        """About 0 to 1. Raises NoScore(TooShort)."""
        if not self._count:
            raise too_short()
        return self._total / self._count / FULL_MARK

    def close(self) -> None:
        """Nothing is open."""


class Clip:
    """CLIP's image encoder."""

    def __init__(self, metric: Any, folder: Path | None) -> None:
        files = files_of(metric, folder)
        from transformers import CLIPVisionModelWithProjection

        with readable(files):
            source = str(files[0].parent)
            model: Any = CLIPVisionModelWithProjection.from_pretrained(
                source, local_files_only=True
            )
            self._model = on_device(model)

    def features(self, frame: Frame) -> torch.Tensor:
        """[1, D], of length 1, of the centre square."""
        import torch

        with torch.inference_mode():
            pixels = pixels_of(frame, CLIP_COLOURS, cubic=True, square=True)
            found: torch.Tensor = self._model(pixels.to(self._model.device)).image_embeds
            return torch.nn.functional.normalize(found)


class Dino:
    """DINO's ViT-B/16 (Caron et al. 2021), without its head."""

    def __init__(self, folder: Path | None) -> None:
        files = files_of("vbench_subject_consistency", folder)
        from transformers import ViTModel

        with readable(files):
            model: Any = ViTModel.from_pretrained(
                str(files[0].parent), add_pooling_layer=False, local_files_only=True
            )
            self._model = on_device(model)

    def features(self, frame: Frame) -> torch.Tensor:
        """[1, D], of length 1, of the whole picture."""
        import torch

        with torch.inference_mode():
            pixels = pixels_of(frame, DINO_COLOURS, cubic=False, square=False)
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
