"""Time that pods take to measure videos. With scoreOnGpu they hold a GPU all the while."""

from __future__ import annotations

from collections.abc import Iterable

from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.metric_names import MetricName

PROCESSORS = 4
"""Processors of a pod that measures with networks, of which each takes a clip."""
PIXELS = 1280 * 720
DECODING = 0.03
"""Processor seconds that a pair of frames of PIXELS takes before anything is measured."""
SECONDS: dict[MetricName, float] = {
    "ssim": 0.04,
    "ms_ssim": 0.09,
    "vmaf": 0.16,
    "ffmpeg_psnr": 0.01,
    "ffmpeg_ssim": 0.01,
    "motion_ratio": 0.03,
    "camera_agreement": 0.06,
    "identity_drift": 0.01,
    "colour_shift": 0.01,
    "warping_error": 0.04,
}
"""Processor seconds of a pair of frames of PIXELS, by metric, measured with other work on the same
cores. What is not there takes little, or was not measured: networks on a GPU."""


def seconds_per_video(metrics: Iterable[MetricName], size: Bucket) -> float:
    """Seconds that a pod takes to measure a video, without the networks of metrics."""
    pair = DECODING + sum(SECONDS.get(name, 0.0) for name in metrics)
    return pair * size.frames * size.width * size.height / PIXELS / PROCESSORS
