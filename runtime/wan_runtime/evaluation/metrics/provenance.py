"""What a score was computed with: libraries, machine, and choices that change a number."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av
import cv2
import numpy as np
import PIL

from wan_runtime.evaluation.metrics import (
    appearance,
    frame,
    motion,
    perceptual,
    similarity,
    vmaf,
)

PROCESSOR = Path("/proc/cpuinfo")


NETWORKS = ("torch", "torchvision", "transformers")


@cache
def device(networks: bool) -> str:
    """The processor's name, as Linux has it; and the GPU's, if networks computed on one."""
    return _processor() + (_gpu() if networks else "")


@cache
def versions(networks: bool) -> dict[str, str]:
    """Versions of what computes, by name."""
    found = {"opencv": cv2.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    found["av"] = av.__version__
    for name in ("libavcodec", "libavfilter", "libswscale"):
        found[name] = ".".join(map(str, av.library_versions[name]))
    for name in ("wan-operator", *(NETWORKS if networks else ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "from a checkout"
    return found


def _processor() -> str:
    if PROCESSOR.exists():
        for line in PROCESSOR.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return f"cpu: {value.strip()}"
    return f"cpu: {platform.machine()}"


def _gpu() -> str:
    gpu = perceptual.gpu()
    return f"; gpu: {gpu}" if gpu else ""


def settings() -> dict[str, str]:
    """Choices that change a number, by name."""
    return {
        "colours": "RGB as displayed: matrix and range by the file, untagged from 720 lines or "
        "1280 columns on BT.709, below BT.601",
        "size": "cut to the centre, Lanczos, nothing enlarged",
        "time": "frame on the screen at each time of the timeline; the first frame apart",
        "ssim": f"Gaussian of sigma {similarity.SIGMA} and {2 * similarity.RADIUS + 1} pixels, "
        "population covariance, range 255",
        "motion": f"DIS optical flow (fast) on grey of at most {frame.REDUCED} pixels",
        "still": f"{motion.STILL} pixels a frame",
        "flicker": f"blocks of {appearance.BLOCK} pixels",
        "vmaf": vmaf.MODEL,
    }
