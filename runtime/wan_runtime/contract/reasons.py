"""Why a step ended as it did: a closed list, and what each reason means to users."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """The end of a step, in one word. The operator shows these as reasons of conditions and
    Events, with their texts in its reference. Grouped by the `ExitClass` that they come with."""

    _value_: str
    text: str
    """What it means, and what helps."""

    def __new__(cls, value: str, text: str) -> Self:
        made = str.__new__(cls, value)
        made._value_ = value
        made.text = text
        return made

    COMPLETED = "Completed", "The step, or the whole run, is complete."
    # INPUT
    DATASET_NOT_FOUND = (
        "DatasetNotFound",
        "The metadata file or the folder of the dataset does not exist.",
    )
    DATASET_EMPTY = (
        "DatasetEmpty",
        "The metadata file lists no clip, or too few remain to train and hold one recording out.",
    )
    DATASET_INVALID = "DatasetInvalid", "The metadata file cannot be read or lacks a column."
    CLIP_INVALID = (
        "ClipInvalid",
        "One or more clips fail a check; the message names the first ones, the manifest lists all.",
    )
    MODEL_NOT_FOUND = (
        "ModelNotFound",
        "The model source does not hold the files that the preset needs, or initFrom names "
        "nothing.",
    )
    MODEL_INVALID = (
        "ModelInvalid",
        "The files of the model source or of initFrom are not weights of this preset, or their "
        "digest differs.",
    )
    JOB_INVALID = (
        "JobInvalid",
        "The runtime cannot read the job file: the images of operator and runtime are of "
        "different releases.",
    )
    LORA_TARGET_UNKNOWN = (
        "LoraTargetUnknown",
        "An entry of targetModules matches no layer of the model.",
    )
    # OUT_OF_MEMORY
    GPU_OUT_OF_MEMORY = (
        "GPUOutOfMemory",
        "GPU memory ran out. Fewer frames, a smaller size or gradientCheckpointing Full need less.",
    )
    HOST_OUT_OF_MEMORY = (
        "HostOutOfMemory",
        "The container reached its memory limit. Raise spec.resources.memory; for a service, "
        "spec.workers.resources.memory.",
    )
    # INFRASTRUCTURE
    STORE_UNREACHABLE = "StoreUnreachable", "The store does not answer. The step is retried."
    STORE_ACCESS_DENIED = (
        "StoreAccessDenied",
        "The store refused the credentials. The step is retried, so correcting the Secret is "
        "enough.",
    )
    STORE_NOT_FOUND = (
        "StoreNotFound",
        "The bucket does not exist. The step is retried, so creating the bucket is enough.",
    )
    ARTIFACT_CORRUPT = (
        "ArtifactCorrupt",
        "A stored object does not match the checksum in its manifest.",
    )
    DISK_FULL = (
        "DiskFull",
        "The pod's scratch volume or the model cache is too small; the message says which, and by "
        "how much. Raise spec.resources.cache; for a service, spec.workers.resources.cache.",
    )
    UNEXPECTED = (
        "Unexpected",
        "An error without a reason of its own; the message has its last line, the log the rest.",
    )
    # STOPPED
    TERMINATED = (
        "Terminated",
        "The pod was stopped and saved a checkpoint. The step starts again and uses no retry.",
    )
    # NUMERICAL
    NON_FINITE_LOSS = (
        "NonFiniteLoss",
        "The loss is infinite or not a number. Lower the learning rate.",
    )
    DIVERGED = (
        "Diverged",
        "The held-out loss rose to three times its lowest value; the message has both.",
    )
    DEAD_GRADIENTS = (
        "DeadGradients",
        "One or more trainable modules have no gradient after the first step; the message lists "
        "them.",
    )
