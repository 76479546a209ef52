"""Scores of one clip, alone or beside a reference."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from wan_runtime.contract.clip_scores import ClipScores, Score
from wan_runtime.contract.metric_names import METRIC_NAMES, METRICS, MetricName
from wan_runtime.evaluation.metrics import fidelity, provenance
from wan_runtime.evaluation.metrics.alignment import AS_CANDIDATE, Aligned, Grid
from wan_runtime.evaluation.metrics.appearance import (
    ColourShift,
    Flicker,
    IdentityDrift,
    Sharpness,
)
from wan_runtime.evaluation.metrics.dynamic import VbenchDynamicDegree
from wan_runtime.evaluation.metrics.ffmpeg import FfmpegPsnr, FfmpegSsim
from wan_runtime.evaluation.metrics.frame import Pair
from wan_runtime.evaluation.metrics.motion import CameraAgreement, MotionRatio, WarpingError
from wan_runtime.evaluation.metrics.perceptual import ClipSimilarity, Lpips
from wan_runtime.evaluation.metrics.scorer import Scorer
from wan_runtime.evaluation.metrics.unscored import NoScore
from wan_runtime.evaluation.metrics.vbench import (
    VbenchAestheticQuality,
    VbenchBackgroundConsistency,
    VbenchI2vSubject,
    VbenchSubjectConsistency,
    VbenchTemporalFlickering,
)
from wan_runtime.evaluation.metrics.vmaf import Vmaf

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what a clip may take."""

    seconds: float = 600.0
    """Duration after which nothing more is computed, and every metric of the clip is TimedOut."""
    frames: int | None = None
    """Frames of the timeline that are read, the first among them. None: all."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """What no image holds. None: it is not there."""

    weights: Path | None = None
    """Folder with a folder for each metric that needs weights: the definitions name them."""

    def folder(self, metric: MetricName) -> Path | None:
        """Folder with the weights of a metric. None: it is not there."""
        wanted = METRICS[metric].weights
        if self.weights is None or wanted is None:
            return None
        found = self.weights / wanted.folder
        return found if found.is_dir() else None


NETWORKS = frozenset(name for name, each in METRICS.items() if each.weights is not None)
"""Metrics that torch computes."""
USUAL, NOTHING = Limits(), Mounted()


def score_clip(
    candidate: Path,
    reference: Path | None = None,
    first_frame: Path | None = None,
    metrics: Iterable[MetricName] = METRIC_NAMES,
    limits: Limits = USUAL,
    *,
    grid: Grid = AS_CANDIDATE,
    mounted: Mounted = NOTHING,
    legacy: bool = False,
) -> ClipScores:
    """Score a clip. What is wrong with a file is never raised: each metric has a number or a
    reason. Two frames of each clip are held at a time, however long it is.

    `first_frame`: picture that the clip starts from; without it, the reference's first frame.
    `legacy`: give `legacy_psnr_uint8` too.
    """
    began = time.monotonic()
    cv2.setNumThreads(1)  # clips are scored side by side instead
    deadline = began + limits.seconds
    scoring = _Scoring(metrics, deadline, mounted, legacy)
    facts: Mapping[str, Any] = {}
    try:
        aligned = Aligned(candidate, reference, first_frame, grid, limits.frames, deadline)
        for pair in aligned:
            scoring.add(pair)
        facts = aligned.facts()
        scoring.finish()
    except NoScore as error:
        scoring.fail(error)
    finally:
        scoring.close()
    networks = any(
        name in NETWORKS and each.value is not None for name, each in scoring.scores.items()
    )
    return ClipScores(
        scores=scoring.scores,
        legacy_psnr_uint8=scoring.legacy_psnr,
        seconds=round(time.monotonic() - began, 3),
        device=provenance.device(networks),
        versions=provenance.versions(networks),
        settings=provenance.settings(),
        **facts,
    )


class _Scoring:
    """The scorers that are at work, and what has come of the others."""

    def __init__(
        self, metrics: Iterable[MetricName], deadline: float, mounted: Mounted, legacy: bool
    ) -> None:
        self.scores: dict[MetricName, Score] = {}
        self.legacy_psnr: float | None = None
        self._deadline = deadline
        self._legacy = fidelity.LegacyPsnr() if legacy else None
        self._wanted = tuple(dict.fromkeys(metrics))
        self._running: dict[MetricName, Scorer] = {}
        builders = _builders(mounted)
        for name in self._wanted:
            with self._kept(name):
                self._running[name] = builders[name]()

    def add(self, pair: Pair) -> None:
        """Hand a pair to each scorer. Raises NoScore(TimedOut)."""
        for name, scorer in [*self._running.items()]:
            if time.monotonic() > self._deadline:
                raise NoScore("TimedOut", f"the time limit ended it at frame {pair.index}")
            with self._kept(name):
                scorer.add(pair)
        if self._legacy is not None and pair.reference is not None:
            self._legacy.add(pair)

    def finish(self) -> None:
        """Collect the numbers."""
        for name, scorer in [*self._running.items()]:
            with self._kept(name):
                value = scorer.value()
                if not math.isfinite(value):
                    raise NoScore("Failed", "the result is not a finite number")
                self.scores[name] = Score(value=value)
        if self._legacy is not None:
            with suppress(NoScore):
                self.legacy_psnr = self._legacy.value()

    def fail(self, error: NoScore) -> None:
        """Give every metric that was wanted this reason: a part of a clip has no score. Those with
        one of their own keep it."""
        for name in self._wanted:
            self.scores.setdefault(name, Score(reason=error.reason, message=error.message))

    def close(self) -> None:
        """End what the scorers started, and put the scores in the order of reports."""
        for scorer in self._running.values():
            scorer.close()
        self.scores = {name: self.scores[name] for name in METRICS if name in self.scores}

    @contextmanager
    def _kept(self, name: MetricName) -> Iterator[None]:
        """Whatever a metric raises is its own: the others go on."""
        try:
            yield
        except MemoryError:
            raise
        except NoScore as error:
            self._drop(name, error)
        except Exception:
            log.exception("%s failed", name)
            self._drop(name, NoScore("Failed", "an error of its own: the log has it"))

    def _drop(self, name: MetricName, error: NoScore) -> None:
        self.scores[name] = Score(reason=error.reason, message=error.message)
        if (scorer := self._running.pop(name, None)) is not None:
            scorer.close()


OF_NETWORKS: Mapping[MetricName, Callable[[Path | None], Scorer]] = {
    "lpips": Lpips,
    "clip_similarity": ClipSimilarity,
    "vbench_subject_consistency": VbenchSubjectConsistency,
    "vbench_background_consistency": VbenchBackgroundConsistency,
    "vbench_aesthetic_quality": VbenchAestheticQuality,
    "vbench_dynamic_degree": VbenchDynamicDegree,
    "vbench_i2v_subject": VbenchI2vSubject,
}
"""What scores by the folder of its weights."""


def _builders(mounted: Mounted) -> dict[MetricName, Callable[[], Scorer]]:
    return {
        "psnr": fidelity.Psnr,
        "ssim": fidelity.ssim,
        "ms_ssim": fidelity.ms_ssim,
        "vmaf": Vmaf,
        "ffmpeg_psnr": FfmpegPsnr,
        "ffmpeg_ssim": FfmpegSsim,
        "motion_ratio": MotionRatio,
        "camera_agreement": CameraAgreement,
        "first_frame_fidelity": fidelity.FirstFrameFidelity,
        "identity_drift": IdentityDrift,
        "colour_shift": ColourShift,
        "sharpness": Sharpness,
        "flicker": Flicker,
        "warping_error": WarpingError,
        "vbench_temporal_flickering": VbenchTemporalFlickering,
        **{name: partial(make, mounted.folder(name)) for name, make in OF_NETWORKS.items()},
    }
