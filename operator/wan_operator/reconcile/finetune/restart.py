"""The run over again, with a spec that was edited before a GPU worked for it."""

from __future__ import annotations

from wan_operator.api.v1alpha1.finetune import FIXED, FIXED_OPTIONAL, WanFineTuneSpec
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.finetune.left import trained
from wan_operator.reconcile.finetune.plan import FineTuneRun, trains_jointly
from wan_operator.reconcile.runs.restart import hashed, started_over


def digest(spec: WanFineTuneSpec) -> str:
    """Hex SHA-256 of the fields that the API server fixes later."""
    names = {*FIXED, *FIXED_OPTIONAL}
    content = spec.model_dump(mode="json", by_alias=True, include=names, exclude_defaults=True)
    content["everySteps"] = spec.validation.every_steps
    if trains_jointly(spec):
        content["joint"] = True
    return hashed(content)


def restarted(run: FineTuneRun) -> Decision | None:
    """The run started over. None if there is no such edit.

    An edit may come in while the first encoding is being started: that is stopped too.
    """
    wanted = digest(run.spec)
    if run.status.spec_sha256 in (None, wanted) or trained(run.status):
        return None
    text = "the spec was edited before a GPU had worked for the run, which starts over"
    return started_over(run, text, wanted)
