"""The page as a whole."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.evaluation.report import clips, tables
from wan_runtime.evaluation.report.markup import (
    details,
    element,
    number,
    paragraph,
    section,
    text,
)
from wan_runtime.evaluation.report.pictures import Embedded, Pictures
from wan_runtime.evaluation.result import EvaluationResult
from wan_runtime.process.progress import Reporter

DECISIONS = {
    "Winner": "{winner} wins",
    "Tie": "A tie: the best candidates are equal on every clip",
    "Inconclusive": "Inconclusive: the evidence does not make a winner",
}
SIMULATED = (
    "The ratings are simulated: nobody judged these videos. The scores of people were made up from "
    "the metrics, to show how an evaluation works."
)


def write(path: Path, result: EvaluationResult, store: Store, work: Path, report: Reporter) -> None:
    """Write the page with all that it shows."""
    embedded = Pictures(store, work).of(result, report)
    path.write_text(page(result, embedded), encoding="utf-8")


def page(result: EvaluationResult, embedded: Mapping[str, Embedded]) -> str:
    """HTML that loads nothing: neither styles nor scripts nor media come from elsewhere."""
    here = files(__package__)
    base = files("wan_runtime.web").joinpath("assets", "base.css")
    style = f"{base.read_text('utf-8')}\n{here.joinpath('style.css').read_text('utf-8')}"
    script = here.joinpath("script.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    title = f"Evaluation {result.namespace}/{result.name}"
    head = (
        '<meta charset="utf-8">'
        + element("meta", http_equiv="Content-Security-Policy", content=policy)
        + element("meta", name="viewport", content="width=device-width, initial-scale=1")
        + element("title", text(title))
        + element("style", style)
    )
    body = element("header", element("h1", text(title)) + _when(result))
    body += element("main", "\n".join(filter(None, _parts(result, embedded))))
    body += f"<script>{script}</script>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _when(result: EvaluationResult) -> str:
    candidates, count = len(result.work.candidates), len(result.clips)
    words = f"{candidates} candidates on {count} clips, {result.made:%Y-%m-%d %H:%M} UTC"
    return paragraph(words, "quiet")


def _parts(result: EvaluationResult, embedded: Mapping[str, Embedded]) -> list[str]:
    simulated = result.ratings is not None and result.ratings.simulated
    return [
        element("div", text(SIMULATED), cls="notice", role="note") if simulated else "",
        _verdict(result),
        tables.standings(result),
        tables.comparisons(result),
        tables.gate(result),
        tables.metrics(result),
        tables.costs(result),
        tables.people(result),
        clips.players(result, embedded),
        clips.measurements(result),
        _settings(result),
        _lineage(result),
    ]


def _verdict(result: EvaluationResult) -> str:
    verdict = result.verdict
    head = DECISIONS[verdict.decision].format(winner=verdict.winner)
    content = paragraph(head, "decision") + paragraph(verdict.message)
    doubts = [
        each for each in result.decision.quality.doubts if each.message not in verdict.message
    ]
    content += "".join(paragraph(f"{each.reason}: {each.message}") for each in doubts)
    if verdict.cheapest_good and verdict.cheapest_good != verdict.winner:
        content += paragraph(f"About as good, and the cheapest: {verdict.cheapest_good}.")
    return element("div", content, cls=f"verdict {verdict.decision}", role="status")


def _settings(result: EvaluationResult) -> str:
    work, decision = result.work, result.decision
    weights = ", ".join(
        f"{each.metric} / {each.divisor:g} x {each.weight:g}"
        for each in result.totals.scoring.components
    )
    facts = {
        "Sampling": _json(work.sampling.model_dump(mode="json", exclude_none=True))
        or "the defaults of each candidate's model",
        "Seed of the first clip": work.seed,
        "Weighted total": weights,
        "Level of intervals": f"{decision.level:g}",
        "Resamples and their seed": f"{decision.resamples}, {decision.seed}",
        "Fewest clips for a winner": work.decision.minimum_clips,
        "Rendered twice, for the noise floor": work.noise_floor or "none",
        "Price of a GPU-hour": number(work.price_per_gpu_hour),
        "Measured on": result.scores.device,
        "Libraries": ", ".join(f"{k} {v}" for k, v in result.scores.versions.items()),
        **{f"Metrics: {name}": value for name, value in result.scores.settings.items()},
    }
    return section("Settings", _facts(facts))


def _lineage(result: EvaluationResult) -> str:
    made = {
        each.candidate: f"{each.gpu}, arithmetic {each.profile}, weights {each.weights}"
        if each.gpu
        else "not rendered here"
        for each in result.videos
        if each.video is not None
    }
    inputs = {name: f"{ref.uri} (sha256 {ref.sha256})" for name, ref in result.inputs.items()}
    return section(
        "Lineage",
        _facts({"Runtime image": result.image or "not known", **made, **inputs}),
        details(
            "The evaluation as it was resolved",
            element("pre", text(json.dumps(result.work.stated(), indent=1, ensure_ascii=False))),
        ),
    )


def _facts(facts: Mapping[str, object]) -> str:
    return element(
        "dl",
        "".join(
            element("dt", text(name)) + element("dd", text(value)) for name, value in facts.items()
        ),
    )


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False) if content else ""
