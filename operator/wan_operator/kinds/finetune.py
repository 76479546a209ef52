"""WanFineTune, for the registry."""

from __future__ import annotations

from wan_operator.api.v1alpha1 import finetune as api
from wan_operator.conditions.runs import RUNS
from wan_operator.crdgen.crd import MODEL_COLUMN, STATE_COLUMNS, Column, Definition
from wan_operator.kinds.kind import Kind, Page
from wan_operator.reconcile.finetune import reconcile
from wan_operator.reconcile.observed import step_of
from wan_operator.reconcile.runs.ends import needs_reconcile
from wan_operator.reconcile.runs.report import progress_addresses
from wan_runtime.contract.job import Progress

DEFINITION = Definition(
    name=api.KIND,
    plural=api.PLURAL,
    short=api.SHORT_NAME,
    spec=api.WanFineTuneSpec,
    status=api.WanFineTuneStatus,
    name_limit=api.NAME_LIMIT,
    example="examples/finetune-minimal.yaml",
    rules=(*api.FIXED_RULES, api.EXPORTED, api.MEETING),
    columns=(
        *STATE_COLUMNS,
        Column(
            name="Progress",
            path=".status.progress.display",
            description="Progress of the running step.",
        ),
        Column(
            name="ETA",
            path=".status.progress.eta",
            description="Estimated time until the running step ends.",
        ),
        Column(
            name="GPUs",
            path=".status.effective.gpus",
            type="integer",
            description="Number of GPUs that train at the same time.",
        ),
        Column(
            name="Checkpoint",
            path=".status.checkpoint.time",
            type="date",
            wide=True,
            description="Age of the newest checkpoint.",
        ),
        Column(
            name="Artifact",
            path=".status.artifact.uri",
            wide=True,
            description="Address of the manifest of the exported weights.",
        ),
        MODEL_COLUMN,
    ),
)

FINETUNE = Kind(
    definition=DEFINITION,
    label=api.LABEL,
    children=("ConfigMap", "Job", "Pod"),
    watched=("Job", "Pod"),
    vocabulary=RUNS,
    reconcile=reconcile.reconcile,
    needs_reconcile=lambda cr: needs_reconcile(cr) or reconcile.has_failed_checkpoint(cr),
    stalled=reconcile.stalled,
    left=reconcile.left_by,
    unit=step_of,
    page=Page(
        path="/progress",
        model=Progress,
        limit_bytes=16 * 1024,
        addresses=progress_addresses,
    ),
)
