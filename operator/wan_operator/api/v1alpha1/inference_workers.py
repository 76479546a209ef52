"""Workers of a WanInferenceService, and what its GPUs do together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import one_of
from wan_operator.api.v1alpha1.common import ApiModel
from wan_operator.api.v1alpha1.pods import PodTemplate, ResourceOverrides

MAX_SECONDS = 7 * 86400

Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]


class Workers(ApiModel):
    """Pods that render on GPUs, one video at a time each."""

    gpus: Annotated[int, Field(ge=1, le=8), one_of(1, 2, 4, 8)] = 1
    """Number of GPUs of each worker. Several GPUs render one video faster, not several videos."""
    drain_seconds: Seconds | None = None
    """Seconds that a worker may take to finish its video when it is stopped, before it returns the
    video to the queue. Default: 1.5 times the planner's estimate for the longest video, at least
    60."""
    resources: ResourceOverrides = ResourceOverrides()
    """CPU, memory and scratch space of each worker. Default: the planner's estimate."""
    pod_template: PodTemplate = PodTemplate()
    """Settings of the workers' pods, in addition to the operator's own."""


class Parallelism(ApiModel):
    """Division of a video among the GPUs of a worker. With guidance, each half of them computes one
    branch of a step; the GPUs of a half, and all GPUs without guidance, share the tokens."""

    backend: Literal["Native", "xDiT"] = "Native"
    """Code by which GPUs exchange the tokens that they share. Native: two exchanges for each
    attention, of exactly the tokens that there are. xDiT: the groups of the package xfuser,
    and the attention of yunchang, on which it stands."""
    ring: Annotated[int, Field(ge=1, le=4), one_of(1, 2, 4)] = 1
    """Number of groups of GPUs among which keys and values go round, each group with the tokens of
    its own part. 1: none; GPUs share the attention heads alone. Rings add up in another order: the
    attention stays in 16 bits with every profile."""
