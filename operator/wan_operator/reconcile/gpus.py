"""The GPUs of pods, and the words of a resource that does not fit on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wan_operator.api.v1alpha1.pods import PodTemplate
from wan_operator.reconcile.observed import Raw
from wan_operator.resources.labels import FIT_CHECK
from wan_runtime.planner.gpus import Gpu, by_product

PRODUCT = "nvidia.com/gpu.product"
"""Node label of NVIDIA's GPU feature discovery."""


def gpu_of(pods: PodTemplate, default: Gpu | None, catalogue: Sequence[Gpu]) -> Gpu | None:
    """The type that the pods are bound to by their node selector; else the cluster's default. None:
    not known."""
    return gpu_by(pods.node_selector, default, catalogue)


def gpu_by(
    selector: Mapping[str, str], default: Gpu | None, catalogue: Sequence[Gpu]
) -> Gpu | None:
    """As `gpu_of`, by the node selector."""
    label = selector.get(PRODUCT)
    return default if label is None else by_product(label, catalogue)


def is_fit_checked(cr: Raw) -> bool:
    """Unless its annotation says that it shall be tried."""
    return bool(cr["metadata"].get("annotations", {}).get(FIT_CHECK) != "disabled")


def way_out(changes: Sequence[str]) -> str:
    """The end of a refusal. `changes`: of which each alone makes it fit."""
    helps = f"it fits with {', or '.join(changes)}" if changes else "no single change makes it fit"
    return f"{helps}. To try it all the same, set the annotation {FIT_CHECK}: disabled"
