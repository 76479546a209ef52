"""Step `compare`: the winner, whether the gate passes, and the report."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.decision import Decision, GateVerdict, Scoring
from wan_runtime.contract.evaluation import EvaluationWork, evaluation_of
from wan_runtime.contract.figures import SUBJECTIVE, TOTAL
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.results import collected, generated, rated, scored
from wan_runtime.evaluation.evidence import (
    deciding_metric,
    evidence_of,
    gate_of,
    scoring_of,
)
from wan_runtime.evaluation.records import (
    CLIPS,
    EVALUATION,
    RATINGS,
    REPORT,
    SCORES,
    VIDEOS,
    Ratings,
    Scores,
    TestClips,
    Videos,
)
from wan_runtime.evaluation.report import page as report_page
from wan_runtime.evaluation.result import EvaluationResult
from wan_runtime.evaluation.standings import verdict_of
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Evidence, Settings
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter

T = TypeVar("T", bound=Contract)


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Decide, and commit evaluation.json and report.html."""
    report.update(activity="deciding")
    result = decided(job, store)
    files = {EVALUATION: documents.written(result, work / EVALUATION), REPORT: work / REPORT}
    report_page.write(files[REPORT], result, store, work, report)
    verdict = result.verdict
    summary: dict[str, int | float | str] = {
        "decision": verdict.decision,
        "candidates": len(verdict.standings),
        "clips": len(result.clips),
    }
    ref = manifest.commit(
        store,
        job.output_prefix,
        files,
        kind="evaluation",
        lineage=Lineage.of(job, seed=result.work.decision.seed),
        summary=summary,
        verdict=verdict,
    )
    return Outcome(manifest=ref, message=verdict.message, summary=summary, verdict=verdict)


def decided(job: JobSpec, store: Store) -> EvaluationResult:
    """All that the steps left, and what follows from it."""
    spec = evaluation_of(job)
    clips = documents.read(store, collected(job), CLIPS, TestClips).clips
    videos = tuple(
        video for each in _all(store, generated(job), VIDEOS, Videos) for video in each.videos
    )
    scores = _joined(_all(store, scored(job), SCORES, Scores))
    ref = rated(job)
    ratings = None if ref is None else documents.read(store, ref, RATINGS, Ratings)
    evidence = evidence_of(spec, clips, videos, scores.measured, ratings)
    deciding = deciding_metric(spec)
    decision, totals = _decisions(spec, deciding, evidence)
    if ratings is not None and ratings.simulated and _rests_on_people(spec, deciding):
        totals = totals.model_copy(update={"gate": _undecided(totals.gate)})
    decision = decision.model_copy(update={"gate": totals.gate})  # there is but one
    return EvaluationResult(
        namespace=job.namespace,
        name=job.name,
        made=datetime.now(UTC),
        work=spec,
        clips=clips,
        videos=videos,
        scores=scores,
        ratings=ratings,
        deciding=deciding,
        decision=decision,
        totals=totals,
        verdict=verdict_of(spec, deciding, decision, totals, videos, ratings),
        inputs=dict(job.inputs),
        image=job.image,
    )


def _decisions(
    spec: EvaluationWork, deciding: str, evidence: Evidence
) -> tuple[Decision, Decision]:
    """Decisions by what decides, and by the weighted total, whose limits the gate may name."""
    settings = Settings(
        level=spec.decision.level,
        seed=spec.decision.seed,
        minimum_clips=spec.decision.minimum_clips,
    )

    def by(scoring: Scoring, winner: str | None = None) -> Decision:
        return decide(evidence, scoring, gate_of(spec, winner), settings)

    decision = by(scoring_of(spec, deciding))
    if deciding == TOTAL:
        return decision, decision
    winner = decision.quality.winner
    totals = by(scoring_of(spec, TOTAL), winner)
    if spec.gate is not None and spec.gate.candidate is None and winner is None:
        # The total may have a winner that what decides has not: it is none.
        totals = totals.model_copy(update={"gate": decision.gate})
    return decision, totals


def _rests_on_people(spec: EvaluationWork, deciding: str) -> bool:
    """Whether what people say is part of a limit of the gate, or of who is judged by it."""
    gate, people = spec.gate, spec.ratings
    if gate is None or people is None or people.mode == "Pairs":
        return False
    chosen = {deciding} if gate.candidate is None else set()
    return bool({SUBJECTIVE, TOTAL} & {*gate.minimums, *gate.largest_regressions, *chosen})


def _undecided(gate: GateVerdict | None) -> GateVerdict | None:
    """The gate, which does not pass on what nobody said."""
    if gate is None or not gate.passed:
        return gate
    message = f"simulated ratings pass no gate; {gate.message}"
    return gate.model_copy(update={"passed": None, "message": message})


def _all(store: Store, refs: Iterable[ManifestRef], name: str, kind: type[T]) -> list[T]:
    return [documents.read(store, ref, name, kind) for ref in refs]


def _joined(parts: list[Scores]) -> Scores:
    """The scores of all parts, and all that measured; versions and settings are of one image."""
    measured = tuple(each for part in parts for each in part.measured)
    if not parts:
        return Scores(measured=())
    device = "; ".join(dict.fromkeys(part.device for part in parts if part.device))
    return parts[0].model_copy(update={"measured": measured, "device": device})
