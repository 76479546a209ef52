"""Rules over the whole of WanEvaluation: names that meet, and what is fixed once it has begun."""

from __future__ import annotations

from pydantic.alias_generators import to_camel

from wan_operator.api.markers import Schema, rule
from wan_operator.api.v1alpha1.syntax import names_a_service
from wan_runtime.contract.figures import SUBJECTIVE, TOTAL
from wan_runtime.contract.metric_names import METRICS

_RATED = "(has(self.ratings) && self.ratings.mode == 'Scores')"
"""Whether people give marks: pairs have none."""
_RATIOS = sorted(each.name for each in METRICS.values() if each.better == "NearerToOne")
_IS_CANDIDATE = "self.candidates.exists(each, each.name == {name})"


def _candidate(field: str, present: str) -> Schema:
    """Rule: the field names a candidate."""
    name = f"self.{field}"
    return rule(
        f"!({present}) || {_IS_CANDIDATE.format(name=name)}",
        "must be the name of a candidate",
        f".{field}",
        computed=f"'must be the name of a candidate: there is no \"%s\"'.format([{name}])",
    )


def _is_measured(metric: str) -> str:
    """Whether there will be a number of this name."""
    return (
        f"({metric} == '{TOTAL}' || ({metric} == '{SUBJECTIVE}' ? {_RATED} : "
        f"{metric} in self.metrics))"
    )


_MEASURED = "one of spec.metrics, total, or, with ratings in the mode Scores, subjective"


def _limits(field: str) -> Schema:
    """Rule: limits of the gate are on numbers that there will be."""
    measured = _is_measured("each.metric")
    return rule(
        f"!has(self.gate) || !has(self.gate.{field}) || self.gate.{field}.all(each, {measured})",
        f"each metric must be {_MEASURED}",
        f".gate.{field}",
        computed=f"'each metric must be {_MEASURED}; these are not: %s'.format("
        f"[self.gate.{field}.filter(each, !{measured}).map(each, each.metric)])",
    )


def _limits_total(field: str) -> str:
    """Whether a limit of the gate is on the total."""
    return (
        f"(has(self.gate) && has(self.gate.{field}) && "
        f"self.gate.{field}.exists(each, each.metric == '{TOTAL}'))"
    )


_DECIDES_BY_TOTAL = f"(has(self.decision.metric) ? self.decision.metric == '{TOTAL}' : !{_RATED})"
_RENDERED = "(has(each.model) || has(each.fineTuneRef))"

RULES: tuple[Schema, ...] = (
    _candidate("noiseFloor", "has(self.noiseFloor)"),
    _candidate("gate.candidate", "has(self.gate) && has(self.gate.candidate)"),
    _candidate("gate.baseline", "has(self.gate) && has(self.gate.baseline)"),
    rule(
        "!has(self.gate) || !has(self.gate.candidate) || !has(self.gate.baseline) || "
        "self.gate.candidate != self.gate.baseline",
        "must be another candidate than gate.candidate",
        ".gate.baseline",
        computed="'must be another candidate than gate.candidate; both are %s'"
        ".format([self.gate.baseline])",
    ),
    rule(
        "!has(self.noiseFloor) || self.candidates.all(each, each.name != self.noiseFloor || "
        f"{_RENDERED})",
        "must be a candidate with model or fineTuneRef: others are not rendered here",
        ".noiseFloor",
    ),
    rule(
        "!has(self.noiseFloorRenders) || has(self.noiseFloor)",
        "name the candidate that is rendered again in noiseFloor",
        ".noiseFloor",
        reason="FieldValueRequired",
    ),
    rule(
        "!has(self.noiseFloor) || !has(self.noiseFloorRenders) || "
        "!('OtherKernels' in self.noiseFloorRenders) || self.candidates.all(each, "
        "each.name != self.noiseFloor || !has(each.acceleration) || "
        "each.acceleration.profile in ['Exact', 'Lossless'])",
        "other kernels are those of the profiles Exact and Lossless: name a candidate with one of "
        "them in noiseFloor, or leave OtherKernels out",
        ".noiseFloorRenders",
    ),
    rule(
        "!self.scoreOnGpu || has(self.metricWeights)",
        "only metrics of networks compute on a GPU: name their weights in metricWeights, or leave "
        "it out",
        ".scoreOnGpu",
    ),
    rule(
        f"!has(self.decision.metric) || {_is_measured('self.decision.metric')}",
        f"must be {_MEASURED}",
        ".decision.metric",
        computed=f"'must be {_MEASURED}; it is %s'.format([self.decision.metric])",
    ),
    rule(
        f"!({_DECIDES_BY_TOTAL} || {_limits_total('thresholds')} || "
        f"{_limits_total('regressions')}) || "
        "((self.decision.weights.psnr == 0.0 || 'psnr' in self.metrics) && "
        "(self.decision.weights.ssim == 0.0 || 'ssim' in self.metrics))",
        "the total decides, or is a limit of the gate, and needs the metrics psnr and ssim: add "
        "them, set their weights to 0, or choose another metric in decision.metric and gate",
        ".metrics",
    ),
    rule(
        "self.decision.weights.psnr + self.decision.weights.ssim + "
        f"({_RATED} ? self.decision.weights.subjective : 0.0) > 0.0",
        "give a weight above 0 to a part of the total that is measured",
        ".decision.weights",
    ),
    _limits("thresholds"),
    _limits("regressions"),
    rule(
        "!has(self.gate) || !has(self.gate.thresholds) || self.gate.thresholds.all(each, "
        f"each.metric != '{SUBJECTIVE}' || (each.value > 4.0 && each.value <= 20.0))",
        "subjective is the sum of four marks from 1 to 5: give more than 4, which the worst has, "
        "and at most 20",
        ".gate.thresholds",
    ),
    rule(
        "!has(self.gate) || !has(self.gate.thresholds) || "
        f"self.gate.thresholds.all(each, !(each.metric in {_RATIOS}))",
        f"the mean of a ratio on both sides of one says nothing: limit {' and '.join(_RATIOS)} in "
        "gate.regressions",
        ".gate.thresholds",
    ),
    rule(
        "!has(self.gate) || (has(self.gate.thresholds) && self.gate.thresholds.size() > 0) || "
        "(has(self.gate.regressions) && self.gate.regressions.size() > 0)",
        "set thresholds or regressions: a gate without a limit would let everything pass",
        ".gate",
    ),
    rule(
        "!has(self.gate) || !has(self.gate.regressions) || self.gate.regressions.size() == 0 || "
        "has(self.gate.baseline)",
        "name the candidate that regressions are measured from",
        ".gate.baseline",
        reason="FieldValueRequired",
    ),
    rule(
        f"has(self.clips.fineTuneRef) || self.candidates.exists(each, {_RENDERED}) || "
        "(has(self.sampling) && has(self.sampling.size) && has(self.sampling.frames) && "
        "has(self.sampling.fps))",
        "set size, frames and fps: no candidate with a preset and no fine-tune gives them",
        ".sampling",
        reason="FieldValueRequired",
    ),
)
"""Rules over the spec."""

FIXED = (
    "candidates",
    "clips",
    "sampling",
    "seed",
    "metrics",
    "metric_weights",
    "score_on_gpu",
    "legacy_psnr",
    "noise_floor",
    "noise_floor_renders",
    "ratings",
    "decision",
    "gate",
    "price_per_gpu_hour",
    "parallelism",
    "store",
)
"""Fields that shape the result."""
MOVABLE = ("deadlineSeconds",)
"""Fields of ratings that do not."""
_RATINGS = ("raters", "mode", "clips", "repeats", "hiddenReferences", "simulated")
_BEGAN = (
    "has(oldSelf.status) && "
    "(has(oldSelf.status.comparingSince) || has(oldSelf.status.completionTime))"
)
_FROZEN = (
    "is fixed once candidates are at work, and once the run has ended: delete and create the "
    "WanEvaluation again to change it"
)


def _fixed(field: str) -> Schema:
    new, old = f"self.spec.{field}", f"oldSelf.spec.{field}"
    parent, _, _ = field.rpartition(".")
    there = f"has(self.spec.{parent}) && has(oldSelf.spec.{parent})" if parent else "true"
    same = f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"
    return rule(
        f"!({_BEGAN}) || !({there}) || ({same})",
        _FROZEN,
        f".spec.{field}",
        reason="FieldValueForbidden",
    )


FIXED_RULES: tuple[Schema, ...] = (
    *(_fixed(to_camel(each)) for each in FIXED if each != "ratings"),
    rule(
        f"!({_BEGAN}) || has(self.spec.ratings) == has(oldSelf.spec.ratings)",
        f"{_FROZEN}; only deadlineSeconds is not",
        ".spec.ratings",
        reason="FieldValueForbidden",
    ),
    *(_fixed(f"ratings.{each}") for each in _RATINGS),
)
"""Rules over the whole object. Until the first candidate is at work everything may be mended, and
starts the run over: no GPU has worked for it."""

PAGE = names_a_service(
    "must begin with a letter where ratings are wanted: the name of the Service of their page "
    "begins with it",
    unless="!has(self.spec.ratings)",
)
"""Rule over the whole object."""
