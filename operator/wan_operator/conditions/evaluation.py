"""Conditions of WanEvaluation: those of all runs, and whether the gate is passed."""

from __future__ import annotations

from wan_operator.conditions import runs
from wan_operator.conditions.merge import Vocabulary
from wan_runtime.contract.reasons import Explanation

GATE_PASSED = "GatePassed"

_REDO = "`kubectl replace --force -f FILE` evaluates again; what is rendered is used again."

TYPES: dict[str, str] = {
    **{name: text for name, text in runs.CONDITION_TYPES.items() if name != runs.DATASET_READY},
    runs.COMPLETE: "The candidates are compared and the report is in the store. Present only once "
    "true; final.",
    GATE_PASSED: "The candidate of spec.gate reaches all its limits. Unknown while data is "
    "missing, which never passes. Absent without spec.gate.",
}
"""Type -> what it means. In the order of `status.conditions`: the first that is True says most
about the state."""

_OWN: dict[str, Explanation] = {
    "GatePassed": Explanation("The candidate reaches all limits of the gate."),
    "GateNotPassed": Explanation(
        "The candidate misses a limit of the gate; the message has the numbers.",
        "It is worse than `spec.gate` allows, or the limit is stricter than meant.",
        "Evaluate a better candidate, or correct `spec.gate`: " + _REDO,
    ),
    "GateUndecided": Explanation(
        "The evaluation is done, and its data does not say whether the gate is passed; the message "
        "has the numbers.",
        "There is no winner to check, a number of a limit is missing, too few clips were compared, "
        "the baseline failed on those that would decide, or the ratings are simulated.",
        "Add clips or raters, or name `spec.gate.candidate`: " + _REDO,
    ),
    "GateWaiting": Explanation(
        "The candidates are not compared yet, so that nothing has passed the gate."
    ),
    "WaitingForFineTune": Explanation(
        "A fine-tune that the evaluation names has not exported its weights, or not prepared its "
        "clips yet.",
        "The run is still at work, or waits itself.",
        "`kubectl get wft FINETUNE` shows how far it is. The evaluation goes on by itself.",
    ),
    "FineTuneNotFound": Explanation(
        "A WanFineTune of this name does not exist in the namespace.",
        "A name in `fineTuneRef` is misspelt, or the run is in another namespace or was deleted.",
        "`kubectl get wft` lists those of the namespace. Apply the run, or correct `fineTuneRef` "
        "with `kubectl edit wev/NAME`.",
    ),
    "FineTuneFailed": Explanation(
        "A fine-tune that the evaluation names has failed or is stalled.",
        "The message names the run.",
        "`kubectl describe wft FINETUNE` has the cause. Mend the run and `kubectl replace --force "
        "-f FILE`, or take it out of the evaluation with `kubectl edit wev/NAME`.",
    ),
    "FineTuneUnsuitable": Explanation(
        "A fine-tune that the evaluation names has written to another store, or cannot be rendered "
        "as its candidate says; the message has both.",
        "`spec.store` of the two differ, or the candidate's `acceleration` is for other models.",
        "Give the evaluation the `spec.store` of the run, or the candidate what its model has: "
        "`kubectl edit wev/NAME`.",
    ),
    "DoesNotFit": Explanation(
        "Rendering a candidate needs more GPU memory than the GPU has, by the planner's estimate; "
        "the message has the numbers and the smallest changes that help. No pod was started.",
        "Size, frames or the model are too large for the GPU type that the pods would get.",
        "Make one of the changes in the message with `kubectl edit wev/NAME`, or choose a larger "
        "GPU by `spec.podTemplate.nodeSelector`.",
    ),
}
_OTHERS = ("DatasetPrepared",)

EVALUATIONS = Vocabulary(
    TYPES, {name: text for name, text in runs.REASONS.items() if name not in _OTHERS} | _OWN
)
