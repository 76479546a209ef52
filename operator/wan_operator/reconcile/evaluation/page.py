"""The page on which people judge the videos: how it is reached while its step runs."""

from __future__ import annotations

from datetime import timedelta

from wan_operator.api.v1alpha1.evaluation_status import RatingsStatus
from wan_operator.reconcile.decision import Delete
from wan_operator.reconcile.evaluation.plan import EvaluationRun
from wan_operator.reconcile.observed import Raw, is_deleting, owned_by
from wan_operator.resources.labels import SPEC_HASH, Manifest
from wan_operator.resources.ratings import page_policy, page_service, url
from wan_runtime.contract.steps import Step

KINDS = ("Service", "NetworkPolicy")


def is_open(run: EvaluationRun) -> bool:
    """Whether an attempt of the step is open, whose pod serves the page."""
    return run.spec.ratings is not None and any(step.name == Step.RATE for step in run.running)


def has_page(cr: Raw) -> bool:
    """Whether the status has the address of a page, which may be left over from a run that has
    ended while people rated."""
    return bool(cr.get("status", {}).get("ratings", {}).get("url"))


def with_page(run: EvaluationRun) -> EvaluationRun:
    """The run with the address of the page, while it is open, and the end of its time."""
    ratings, before = run.spec.ratings, run.status.ratings
    if ratings is None or not is_open(run):
        closed = before.model_copy(update={"url": ""}) if before is not None else None
        return run.with_status(ratings=closed)
    started = run.step(Step.RATE).start_time
    limit = timedelta(seconds=ratings.deadline_seconds)
    deadline = None if started is None else started + limit
    return run.with_status(ratings=RatingsStatus(url=url(run.owner), deadline=deadline))


def wanted(run: EvaluationRun) -> tuple[Manifest, ...]:
    """What is to be made for the page, or made otherwise: its Service, and the job file, by which
    an edit of the deadline reaches the pod that runs."""
    if not is_open(run):
        return ()
    live = {(kind, each["metadata"]["name"]): each for kind in KINDS for each in _ours(run, kind)}
    made = [page(run.owner, Step.RATE.value) for page in (page_service, page_policy)]
    missing = [each for each in made if _hash(each) != _hash(live.get(_key(each)))]
    maps = {("ConfigMap", each["metadata"]["name"]): each for each in run.observed.config_maps}
    files = run.plan.files(run, Step.RATE)
    edited = [each for each in files if _hash(maps.get(_key(each))) not in ("", _hash(each))]
    return (*missing, *edited)


def unwanted(run: EvaluationRun) -> tuple[Delete, ...]:
    """What is left of a page that is closed."""
    if is_open(run):
        return ()
    return tuple(
        Delete.of(each, kind)
        for kind in KINDS
        for each in _ours(run, kind)
        if not is_deleting(each)
    )


def _ours(run: EvaluationRun, kind: str) -> list[Raw]:
    return owned_by(run.observed.children.get(kind, ()), run.owner.uid)


def _key(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _hash(item: Raw | Manifest | None) -> str:
    found: str = (item or {"metadata": {}})["metadata"].get("annotations", {}).get(SPEC_HASH, "")
    return found
