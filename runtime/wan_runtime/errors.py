"""Errors that end a step. Raised anywhere below `wan_runtime`, caught once, by the supervisor.

Each carries the reason and the exit class of the contract; its text is for the user: what is wrong,
where, and what would be right.
"""

from __future__ import annotations

import errno
import re
import sys

from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason

# The last two are oneDNN's, on CPUs alone: it keeps to itself why, and has nothing else to fail by
# in layers that it computed before.
HOST_MEMORY = (
    "DefaultCPUAllocator: can't allocate",
    "std::bad_alloc",
    "can't start new thread",
    "could not create a primitive",
    "could not execute a primitive",
)
"""What RuntimeErrors say of it, besides MemoryError and ENOMEM."""


LOST_RANK = ("/gloo/", "Connection closed by peer", "Connection reset by peer")
"""What RuntimeErrors of collectives say once a rank is gone."""


class StepError(Exception):
    """Base: ends the step with this class and reason."""

    exit_class: ExitClass = ExitClass.INFRASTRUCTURE

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class InputError(StepError):
    """The user's input is wrong; a retry cannot help."""

    exit_class = ExitClass.INPUT


class OutOfMemoryError(StepError):
    """GPU or host memory ran out."""

    exit_class = ExitClass.OUT_OF_MEMORY


class InfrastructureError(StepError):
    """Store, node or driver; a retry may help."""

    exit_class = ExitClass.INFRASTRUCTURE


class Stopped(StepError):
    """SIGTERM arrived and the state was saved."""

    exit_class = ExitClass.STOPPED


class NumericalError(StepError):
    """Training diverged or trains nothing."""

    exit_class = ExitClass.NUMERICAL


def rebuilt(exit_class: ExitClass, reason: Reason, message: str) -> StepError:
    """The error of another process, from what it said of it."""
    kinds = (InputError, OutOfMemoryError, InfrastructureError, Stopped, NumericalError)
    kind = next(each for each in kinds if each.exit_class is exit_class)
    return kind(reason, message)


def classify(error: BaseException) -> StepError:
    """The class and reason of an error that a step did not foresee."""
    if isinstance(error, StepError):
        return error
    text = str(error)
    if _is_gpu_memory(error):
        return OutOfMemoryError(Reason.GPU_OUT_OF_MEMORY, text.split("\n", 1)[0])
    if _is_host_memory(error):
        return OutOfMemoryError(
            Reason.HOST_OUT_OF_MEMORY, f"the host's memory ran out: {text or 'MemoryError'}"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InfrastructureError(
            Reason.DISK_FULL, f"no space left for {error.filename or 'the work folder'}"
        )
    if _is_lost_rank(error):
        # Without the place in the library's source, and its advice.
        said = re.sub(r"^\[\S+:\d+\] |\. This is typically.*", "", text.strip().split("\n", 1)[0])
        return InfrastructureError(Reason.RANK_LOST, f"another rank is lost: {said}")
    return InfrastructureError(Reason.UNEXPECTED, f"{type(error).__name__}: {text}")


def _is_host_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in HOST_MEMORY)


def _is_gpu_memory(error: BaseException) -> bool:
    torch = sys.modules.get(
        "torch"
    )  # never imported for this: an error of torch's comes from torch
    if torch is None:
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "CUDA error: out of memory" in str(error)
    )


def _is_lost_rank(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    distributed = getattr(torch, "distributed", None)
    kinds = getattr(distributed, "DistError", ())
    # Gloo's have no kind of their own.
    return isinstance(error, kinds) or any(each in str(error) for each in LOST_RANK)
