"""Small orders of videos."""

from __future__ import annotations

from wan_runtime.serving.service import Size
from wan_runtime.serving.video import Rendered, Stage, VideoOrder


def order(prompt: str = "a fairy waves", image: str | None = None) -> VideoOrder:
    """Of 17 small frames."""
    return VideoOrder(
        prompt=prompt,
        negative_prompt="",
        size=Size(width=64, height=64),
        frames=17,
        fps=16,
        steps=4,
        guidance=5,
        guidance_low=5,
        shift=5,
        seed=7,
        model="wan",
        image=image,
    )


def rendered(key: str = "videos/x/video.mp4") -> Rendered:
    """What a worker leaves."""
    return Rendered(
        files={"video": key}, bytes=1000, sha256="0" * 64, seconds={Stage.DENOISING: 2.5}
    )
