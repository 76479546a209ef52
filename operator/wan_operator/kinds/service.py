"""WanInferenceService, for the registry."""

from __future__ import annotations

from wan_operator.api.v1alpha1 import inference as api
from wan_operator.api.v1alpha1.evaluation import KIND as EVALUATION
from wan_operator.api.v1alpha1.finetune import KIND as FINETUNE
from wan_operator.api.v1alpha1.syntax import names_a_service
from wan_operator.conditions.service import VOCABULARY
from wan_operator.crdgen.crd import MODEL_COLUMN, STATE_COLUMNS, Column, Definition
from wan_operator.kinds.kind import Follows, Kind, Page
from wan_operator.reconcile.observed import Key, Raw
from wan_operator.reconcile.service import evaluations, finetunes, reconcile
from wan_operator.reconcile.service.left import left
from wan_runtime.contract.report import STATE_PAGE, GatewayState

PAGE_BYTES = 8 * 2**20
"""Room for the page of the largest service: 1000 workers and as many of a canary."""


def follows(cr: Raw) -> tuple[Key, ...]:
    """The fine-tunes and evaluations that a raw service names."""
    return (*finetunes.follows(cr), *evaluations.follows(cr))


DEFINITION = Definition(
    name=api.KIND,
    plural=api.PLURAL,
    short=api.SHORT_NAME,
    spec=api.WanInferenceServiceSpec,
    status=api.WanInferenceServiceStatus,
    name_limit=api.NAME_LIMIT,
    rules=(names_a_service("must begin with a letter: a Service has this name"),),
    scalable=True,
    example="examples/inference-minimal.yaml",
    columns=(
        *STATE_COLUMNS,
        Column(
            name="Workers",
            path=".status.ready",
            description="Number of ready workers, of those wanted.",
        ),
        Column(
            name="Queued",
            path=".status.queue.queued",
            type="integer",
            description="Number of videos that wait.",
        ),
        Column(name="URL", path=".status.url", description="URL of the API."),
        Column(
            name="Rollout",
            path=".status.rollout.phase",
            wide=True,
            description="Phase of the newest revision's rollout.",
        ),
        MODEL_COLUMN,
    ),
)

SERVICE = Kind(
    definition=DEFINITION,
    label=api.LABEL,
    children=(
        "ConfigMap",
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Ingress",
        "HTTPRoute",
        "Deployment",
        "ReplicaSet",
        "Job",
        "Pod",
    ),
    watched=("Deployment", "Job", "Pod"),
    vocabulary=VOCABULARY,
    reconcile=reconcile.reconcile,
    needs_reconcile=lambda cr: True,
    stalled=reconcile.stalled,
    left=left,
    unit=lambda child: f"{child['kind']}/{child['metadata']['name']}",
    page=Page(
        path=STATE_PAGE,
        model=GatewayState,
        limit_bytes=PAGE_BYTES,
        addresses=reconcile.addresses,
    ),
    follows=Follows(kinds=frozenset({FINETUNE, EVALUATION}), keys=follows),
)
