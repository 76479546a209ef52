"""Why a video cannot be made, for its client. No torch."""

from __future__ import annotations

from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import StepError, classify
from wan_runtime.rendering.order import Problem
from wan_runtime.serving.problems import Code

OF_REASON = {
    Reason.CLIP_INVALID: Code.INVALID_IMAGE,
    Reason.MODEL_INVALID: Code.ADAPTER_MISMATCH,
    Reason.MODEL_NOT_FOUND: Code.ADAPTER_UNAVAILABLE,
}
"""While a video is made; the base model is loaded before."""
OF_CLASS = {
    ExitClass.OUT_OF_MEMORY: Code.OUT_OF_MEMORY,
    ExitClass.NUMERICAL: Code.NOT_FINITE,
}

UNFORESEEN = "an error that was not foreseen; the log of the worker has its cause"


class Unrenderable(Exception):
    """This video cannot be made; the next one may."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def problem_of(error: Exception) -> Problem:
    """Problem that whatever was raised while rendering stands for."""
    if isinstance(error, Unrenderable):
        return error.problem
    found: StepError = classify(error)
    code = OF_REASON.get(found.reason) or OF_CLASS.get(found.exit_class) or Code.INTERNAL
    # Words of a library or of Python are for the log, where whoever catches it writes them.
    message = found.message if code is not Code.INTERNAL or found is error else UNFORESEEN
    return Problem(code=code, message=message)
