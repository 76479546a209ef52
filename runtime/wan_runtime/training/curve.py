"""The loss curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SMOOTHING = 0.9
"""Factor of the exponential mean of the training loss, which is corrected for its start."""

BELOW: dict[str, Any] = {
    "frameon": False, "loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "fontsize": "small",
    "columnspacing": 1.0, "handlelength": 1.2,
}  # fmt: skip
"""Place of a legend, where it hides no line. To look for the best one within takes time."""


def smooth(losses: Sequence[float], factor: float = SMOOTHING) -> list[float]:
    """Exponential mean, its start corrected (Kingma & Ba 2015, algorithm 1, on the loss)."""
    mean, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        mean = factor * mean + (1 - factor) * loss
        smoothed.append(mean / (1 - factor**count))
    return smoothed


def draw(history: Mapping[str, Any], path: Path, title: str) -> None:
    """PNG of the training loss over steps, raw and smoothed, and of the probes at each level."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [entry["step"] for entry in history["steps"]]
    losses = [entry["loss"] for entry in history["steps"]]
    left.plot(steps, losses, color="#9db4c0", linewidth=0.8, label="each step")
    left.plot(steps, smooth(losses), color="#12355b", linewidth=1.6, label="smoothed")
    left.set(title="Training loss", xlabel="step", ylabel="velocity error (MSE)")
    left.legend(**BELOW, ncols=2)
    probes = history["probes"]
    for sigma in [key for key in probes[0]["losses"] if key != "mean"]:
        right.plot(
            [probe["step"] for probe in probes],
            [probe["losses"][sigma] for probe in probes],
            marker="o",
            markersize=3,
            linewidth=1.2,
            label=f"sigma {sigma}",
        )
    right.plot(
        [probe["step"] for probe in probes],
        [probe["losses"]["mean"] for probe in probes],
        color="black",
        linewidth=1.8,
        label="mean",
    )
    right.set(title="Held-out probes (fixed clips, noise, levels)", xlabel="step")
    right.legend(**BELOW, ncols=4)
    figure.suptitle(title)
    # Without the version of matplotlib in it, equal curves are equal bytes.
    figure.savefig(path, metadata={"Software": None})
