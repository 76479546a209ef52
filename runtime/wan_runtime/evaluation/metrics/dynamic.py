"""VBench's dynamic degree (Huang et al. 2024): whether a clip moves at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_runtime.contract.metric_names import METRICS, stride_of
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.perceptual import files_of, on_device, readable
from wan_runtime.evaluation.metrics.scorer import too_short, too_small
from wan_runtime.evaluation.metrics.unscored import NoScore

if TYPE_CHECKING:
    import torch

DEFINITION = METRICS["vbench_dynamic_degree"]
"""Without a GPU, a pair of 1280x720 takes half a minute of a processor, and a clip has 40."""
UPDATES = 20
"""Times that RAFT mends its flow."""
FASTEST = 0.05
"""Share of the pixels whose mean speed counts: a small thing that moves is a motion."""
SPEED, OF_SIDE = 6.0, 256.0
"""Pixels from frame to frame, from which on a picture of this shorter side moves."""
MOVING, OF_FRAMES = 4, 16
"""Frames that have to move, of so many."""
STRIDE = 8
"""Pixels by which RAFT divides both sides."""


class VbenchDynamicDegree:
    """1 for a clip that moves, 0 for one that does not, by RAFT's flow (Teed and Deng 2020)."""

    def __init__(self, folder: Path | None) -> None:
        """Raises NoScore(NotMounted)."""
        files = files_of("vbench_dynamic_degree", folder)
        import torch
        from torchvision.models.optical_flow import raft_large

        with readable(files):
            with torch.device("meta"):
                model: Any = raft_large()
            weights = torch.load(files[0], map_location="cpu", weights_only=True)
            model.load_state_dict(weights, assign=True)
            self._model = on_device(model)
            self._device = next(self._model.parameters()).device
        self._before: torch.Tensor | None = None
        self._frames = self._moving = 0

    def add(self, pair: Pair) -> None:
        """Compare a frame with the last one that was looked at. Raises NoScore(TooSmall), and
        NoScore(NotMounted) for large pictures without a GPU."""
        assert DEFINITION.sampling_rate is not None
        if pair.index % stride_of(pair.fps, DEFINITION.sampling_rate):
            return
        height, width = pair.candidate.rgb.shape[:2]
        if min(height, width) < DEFINITION.smallest:
            raise too_small(DEFINITION.smallest, height, width)
        most = DEFINITION.most_without_gpu
        if self._device.type == "cpu" and most is not None and height * width > most:
            text = f"RAFT needs a GPU for pictures of {width}x{height}: set scoreOnGpu"
            raise NoScore("NotMounted", text)
        now = self._input(pair.candidate)
        if self._before is not None:
            self._moving += self._speed(self._before, now) > SPEED * min(height, width) / OF_SIDE
        self._before = now
        self._frames += 1

    def value(self) -> float:
        """0 or 1. Raises NoScore(TooShort)."""
        if self._frames < 2:
            raise too_short()
        return float(self._moving >= round(MOVING * self._frames / OF_FRAMES))

    def close(self) -> None:
        """Nothing is open."""

    def _speed(self, before: torch.Tensor, now: torch.Tensor) -> float:
        """Mean over the fastest pixels, in pixels a frame."""
        import torch

        with torch.inference_mode():
            flow = self._model(before, now, num_flow_updates=UPDATES)[-1]
            speeds = flow.square().sum(dim=1).sqrt().flatten()
            return float(speeds.topk(int(len(speeds) * FASTEST)).values.mean())

    def _input(self, frame: Frame) -> torch.Tensor:
        """[1, 3, H, W] from -1 to 1, the edges repeated up to a multiple of 8."""
        import torch

        pixels = torch.from_numpy(frame.rgb.copy()).to(self._device).permute(2, 0, 1)[None]
        sides = []
        for side in (pixels.shape[3], pixels.shape[2]):
            missing = -side % STRIDE
            sides += [missing // 2, missing - missing // 2]
        return torch.nn.functional.pad(pixels.float() / 127.5 - 1, sides, mode="replicate")
