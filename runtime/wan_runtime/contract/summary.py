"""Names in the summaries of steps that the operator reads."""

from __future__ import annotations

from wan_runtime.contract.dataset import Bucket

TRAINED_STEPS = "steps"
"""Optimizer steps that a train step has done."""
TRAINED_CLIPS = "train"
"""Clips to train on that an encode step has done."""
HELD_OUT_CLIPS = "heldOut"
TRAIN_WINDOWS = "trainWindows"
"""Windows of clips that are trained on, in the summary of the dataset."""


def windows_in(bucket: Bucket) -> str:
    """Name of the number of windows that train in a bucket."""
    return f"{TRAIN_WINDOWS}{bucket}"
