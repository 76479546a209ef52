"""Why a video cannot be made, as clients are told. No torch."""

from __future__ import annotations

from wan_runtime.errors import StepError
from wan_runtime.job import ExitClass
from wan_runtime.serving.video import Problem
from wan_runtime.step import classify

OUT_OF_MEMORY = "out_of_memory"
INVALID_INPUT = "invalid_input"
NON_FINITE = "non_finite"
WORKER_ERROR = "worker_error"
CODES = {
    ExitClass.OUT_OF_MEMORY: OUT_OF_MEMORY,
    ExitClass.INPUT: INVALID_INPUT,
    ExitClass.NUMERICAL: NON_FINITE,
}


class Unrenderable(Exception):
    """This video cannot be made; the next one may."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def problem_of(error: Exception) -> Problem:
    """Of whatever was raised while rendering."""
    if isinstance(error, Unrenderable):
        return error.problem
    found: StepError = classify(error)
    return Problem(code=CODES.get(found.exit_class, WORKER_ERROR), message=found.message)
