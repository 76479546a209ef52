"""VMAF by Netflix' model on features of our own: no package of a permissive licence has it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.metric_names import METRICS
from wan_runtime.evaluation.metrics.adm import detail
from wan_runtime.evaluation.metrics.frame import Pair
from wan_runtime.evaluation.metrics.planes import planes_of, yuv_pair
from wan_runtime.evaluation.metrics.scorer import too_short, too_small
from wan_runtime.evaluation.metrics.vif import Luma, averaged, fidelity, window

MODEL = "vmaf_float_v0.6.1"
FILE = Path(__file__).with_name(f"{MODEL}.json")
BEST = 100.0
SMALLEST = METRICS["vmaf"].smallest
"""libvmaf's own numbers of smaller pictures are none."""
BLUR = window(5, 1.0)
"""What motion is measured behind."""


class Vmaf:
    """Mean of the scores of all frames but the first. A frame's score waits for the next one: its
    motion is the smaller one of those from the frame before and to the frame after."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0
        self._before: Luma | None = None
        self._waiting: list[float] | None = None
        self._motion = 0.0

    def add(self, pair: Pair) -> None:
        """Measure a pair, unless it is the first. Raises NoScore(NoReference, TooSmall)."""
        if not pair.index:
            return
        picture, reference = (planes_of(each)[0].astype(np.float32) for each in yuv_pair(pair))
        if min(picture.shape) < SMALLEST:
            raise too_small(SMALLEST, *picture.shape)
        blurred = averaged(reference, BLUR)
        motion = 0.0
        if self._before is not None:
            motion = float(cv2.norm(blurred, self._before, cv2.NORM_L1)) / blurred.size
        self._score(min(self._motion, motion))
        self._before, self._motion = blurred, motion
        self._waiting = [detail(picture, reference), *fidelity(picture, reference)]

    def value(self) -> float:
        """Between 0 and 100. Raises NoScore(TooShort)."""
        self._score(self._motion)
        if not self._count:
            raise too_short()
        return self._total / self._count

    def close(self) -> None:
        """Nothing is open."""

    def _score(self, motion: float) -> None:
        """Add the score of the frame that waits, if one does."""
        if self._waiting is None:
            return
        loss, *information = self._waiting
        self._waiting = None
        self._total += model().score([loss, motion, *information])
        self._count += 1


@dataclass(frozen=True, slots=True)
class Model:
    """Support vectors of a regression with radial kernels."""

    slopes: NDArray[np.float64]
    """[1 + features], of the score first."""
    intercepts: NDArray[np.float64]
    gamma: float
    offset: float
    weights: NDArray[np.float64]
    """[vectors]"""
    vectors: NDArray[np.float64]
    """[vectors, features]"""

    def score(self, features: list[float]) -> float:
        """Score of a frame, between 0 and 100. `features`: details, motion, and information by
        scale."""
        scaled = np.array(features) * self.slopes[1:] + self.intercepts[1:]
        near = np.exp(-self.gamma * ((self.vectors - scaled) ** 2).sum(axis=1))
        found = float(self.weights @ near) - self.offset
        score = (found - float(self.intercepts[0])) / float(self.slopes[0])
        return min(BEST, max(0.0, score)) if math.isfinite(score) else math.nan


@cache
def model() -> Model:
    """The model as Netflix publishes it: a JSON file around one of libsvm's."""
    stated = json.loads(FILE.read_text())["model_dict"]
    head, _, body = stated["model"].partition("SV\n")
    facts = dict(line.split(maxsplit=1) for line in head.splitlines())
    lines = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(lines), len(stated["slopes"]) - 1))
    for vector, (_, *entries) in zip(vectors, lines, strict=True):
        for entry in entries:  # what is zero is left out
            number, _, value = entry.partition(":")
            vector[int(number) - 1] = float(value)
    return Model(
        slopes=np.array(stated["slopes"]),
        intercepts=np.array(stated["intercepts"]),
        gamma=float(facts["gamma"]),
        offset=float(facts["rho"]),
        weights=np.array([float(weight) for weight, *_ in lines]),
        vectors=vectors,
    )
