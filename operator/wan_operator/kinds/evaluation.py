"""WanEvaluation, for the registry."""

from __future__ import annotations

from wan_operator.api.v1alpha1 import evaluation as api
from wan_operator.api.v1alpha1.finetune import KIND as FINETUNE
from wan_operator.conditions.evaluation import EVALUATIONS, GATE_PASSED
from wan_operator.crdgen.crd import STATE_COLUMNS, Column, Definition
from wan_operator.kinds.kind import Follows, Kind, Page
from wan_operator.reconcile.evaluation import reconcile
from wan_operator.reconcile.evaluation.finetunes import follows
from wan_operator.reconcile.evaluation.page import has_page
from wan_operator.reconcile.observed import step_of
from wan_operator.reconcile.runs.ends import needs_reconcile
from wan_operator.reconcile.runs.report import progress_addresses
from wan_runtime.contract.job import Progress

DEFINITION = Definition(
    name=api.KIND,
    plural=api.PLURAL,
    short=api.SHORT_NAME,
    spec=api.WanEvaluationSpec,
    status=api.WanEvaluationStatus,
    name_limit=api.NAME_LIMIT,
    example="examples/evaluation-minimal.yaml",
    rules=(*api.FIXED_RULES, api.PAGE),
    columns=(
        *STATE_COLUMNS,
        Column(
            name="Progress",
            path=".status.progress.display",
            description="Progress of the running step.",
        ),
        Column(
            name="Winner",
            path=".status.winner",
            description="Candidate of the best quality, where the evidence is enough.",
        ),
        Column(
            name="Gate",
            path=f'.status.conditions[?(@.type=="{GATE_PASSED}")].status',
            description="Whether the gate is passed; Unknown while data is missing.",
        ),
        Column(
            name="Decision",
            path=".status.decision",
            wide=True,
            description="Winner, Tie or Inconclusive.",
        ),
        Column(
            name="Ratings",
            path=".status.ratings.url",
            wide=True,
            description="Address of the page for raters, while it is open.",
        ),
        Column(
            name="Report",
            path=".status.reportUri",
            wide=True,
            description="Address of the report's page.",
        ),
    ),
)

EVALUATION = Kind(
    definition=DEFINITION,
    label=api.LABEL,
    children=("ConfigMap", "Service", "NetworkPolicy", "Job", "Pod"),
    watched=("Job", "Pod"),
    vocabulary=EVALUATIONS,
    reconcile=reconcile.reconcile,
    needs_reconcile=lambda cr: needs_reconcile(cr) or has_page(cr),
    stalled=reconcile.stalled,
    unit=step_of,
    page=Page(
        path="/progress",
        model=Progress,
        limit_bytes=16 * 1024,
        addresses=progress_addresses,
    ),
    follows=Follows(kinds=frozenset({FINETUNE}), keys=follows),
)
