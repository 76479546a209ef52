"""`kubectl wan plan`: memory, time and cost of a WanFineTune before it is applied. Offline."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wan_operator.kubectl.documents import DocumentError, FineTune, read_finetunes
from wan_operator.kubectl.table import aligned
from wan_operator.reconcile.fit import gpu_of, run_plan, workloads
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name, parse_catalogue
from wan_runtime.planner.remedies import remedies
from wan_runtime.planner.run import RunPlan
from wan_runtime.planner.workload import Terms

DOES_NOT_FIT = 1

DESCRIPTION = """\
Says what a WanFineTune needs before it is applied: GPU memory and time by their parts, hours and
cost, and if it does not fit, the smallest changes with which it does. Needs no cluster.

Every number comes from a table of measurements on one H100; the ranges say how far it may be off,
and are wide where nothing has been measured. Rules that span fields are the API server's to check:
kubectl apply --dry-run=server.
"""
EXAMPLES = """\
examples:
  kubectl wan plan -f finetune.yaml --clips 100
  kubectl wan plan -f finetune.yaml --clips 100 --compare
  cat finetune.yaml | kubectl wan plan -f - --gpu H200-141GB -o json

exit status: 0 all fit, 1 something does not, 2 the input is wrong
"""


def add_to(commands: Any) -> None:
    command: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="memory, time and cost of a WanFineTune, before it is applied",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE",
        help="YAML with one or more documents; - is standard input; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--clips", type=_positive, metavar="N",
        help="clips that are trained on: without it, a run of epochs has no known number of steps",
    )  # fmt: skip
    command.add_argument(
        "--gpu", metavar="TYPE",
        help="plan for this type of the catalogue; default: that of podTemplate.nodeSelector's "
        "nvidia.com/gpu.product",
    )  # fmt: skip
    command.add_argument(
        "--catalogue", type=Path, metavar="FILE",
        help="YAML with the Helm value gpuCatalogue, or with its list alone",
    )  # fmt: skip
    command.add_argument(
        "--compare", action="store_true", help="all types of the catalogue, side by side"
    )
    command.add_argument("-o", "--output", choices=("table", "json"), default="table")
    command.set_defaults(run=run)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


EXPLAINED = {
    "yes": "yes",
    "barely": "barely: the estimate does, the upper end of its range does not",
    "unlikely": "unlikely: only the lower end of the range does. The operator tries it",
    "no": "no: the operator refuses it",
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A WanFineTune on one type of GPU; without a plan if it is of a Tiny preset."""

    finetune: FineTune
    plan: RunPlan | None
    remedies: list[str]

    @property
    def fits(self) -> bool:
        return self.plan is None or self.plan.training.fits


def run(options: argparse.Namespace) -> int:
    catalogue = read_catalogue(options.catalogue)
    texts, rows, all_fit = [], [], True
    for finetune in read_finetunes(options.filename):
        gpu = chosen_gpu(options.gpu, finetune, catalogue)
        if options.compare or gpu is None:
            compared = compare(finetune, catalogue, options.clips)
            texts.append(comparison(compared))
            rows += [as_json(each) for each in compared]
        else:
            one = planned(finetune, gpu, catalogue, options.clips)
            texts.append(description(one))
            rows.append(as_json(one))
            all_fit = all_fit and one.fits
    print("\n\n".join(texts) if options.output == "table" else json.dumps(rows, indent=2))
    return 0 if all_fit else DOES_NOT_FIT


def read_catalogue(path: Path | None) -> tuple[Gpu, ...]:
    if path is None:
        return DEFAULTS
    try:
        content = yaml.safe_load(path.read_text())
        if isinstance(content, dict):
            content = content["gpuCatalogue"]
        return parse_catalogue(json.dumps(content))
    except KeyError:
        raise DocumentError(f"{path}: holds neither a list nor gpuCatalogue") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DocumentError(f"{path}: {error}") from error


def chosen_gpu(asked: str | None, finetune: FineTune, catalogue: Sequence[Gpu]) -> Gpu | None:
    if asked is None:
        return gpu_of(finetune.spec, None, catalogue)
    gpu = by_name(asked, catalogue)
    if gpu is None:
        known = ", ".join(each.name for each in catalogue)
        raise DocumentError(f"--gpu {asked} is not in the catalogue: it has {known}")
    return gpu


def planned(finetune: FineTune, gpu: Gpu, catalogue: Sequence[Gpu], clips: int | None) -> Planned:
    spec = finetune.spec
    try:
        works = workloads(spec, gpu)
    except ValueError as error:
        field = "spec.dataset" if spec.dataset.buckets is None else "spec.dataset.buckets"
        raise DocumentError(f"WanFineTune {finetune.name}: {field}.{error}") from error
    if not works:
        return Planned(finetune, None, [])
    plan = run_plan(spec, works, gpu, clips)
    changes = [] if plan.training.fits else remedies(works[0], gpu, catalogue, works[1:])
    return Planned(finetune, plan, changes)


def compare(finetune: FineTune, catalogue: Sequence[Gpu], clips: int | None) -> list[Planned]:
    """On each type: what fits first, then by the money that equal work costs."""
    plans = [planned(finetune, gpu, catalogue, clips) for gpu in catalogue]
    return plans[:1] if plans[0].plan is None else sorted(plans, key=by_cost)


def by_cost(one: Planned) -> tuple[bool, float]:
    assert one.plan is not None
    training = one.plan.training
    assert training.gpu is not None
    return not one.fits, training.seconds_per_step * training.gpu.price_per_hour


# For people


def description(one: Planned) -> str:
    head = f"WanFineTune {one.finetune.name}: "
    if one.plan is None:
        return f"{head}{one.finetune.spec.model.preset} fits everywhere and is not planned"
    plan, training = one.plan, one.plan.training
    gpu = training.gpu
    assert gpu is not None
    low, high = training.gib_range
    rows = [
        ("GPU", f"{gpu.name}: {gpu.memory_gib:.1f} GiB, {gpu.price_per_hour:.2f} an hour"),
        ("fits", EXPLAINED[training.verdict]),
        ("memory", f"{training.gib:.1f} GiB ({low:.1f} to {high:.1f})"),
        *_terms(training.memory, ".1f"),
        ("step", ranged(training.seconds_per_step, training.time_band, "s")),
        *_terms(training.seconds, ".2f"),
        *_buckets(plan),
        ("run", length(plan)),
        ("confidence", explained(training.confidence)),
    ]
    if one.remedies:
        rows.insert(2, ("fits with", ", or ".join(one.remedies)))
    return f"{head}{summary(plan)}\n{aligned(rows)}"


def summary(plan: RunPlan) -> str:
    work = plan.training.work
    method = f"LoRA of rank {work.rank}" if work.method == "lora" else "full fine-tuning"
    largest = "" if len(plan.buckets) == 1 else f", the largest of {len(plan.buckets)} buckets"
    return (
        f"{work.preset}, {method}, {work.frames} frames of {work.width}x{work.height} "
        f"({work.tokens:,} tokens{largest}), gradientCheckpointing {work.checkpointing}"
    )


def _buckets(plan: RunPlan) -> list[tuple[str, str]]:
    """None if there is but one. Which has how many clips is not known here: the run is planned as
    if all were of the largest."""
    if len(plan.buckets) == 1:
        return []
    rows = [("buckets", "hours and cost are as if all clips were of the largest")]
    for each in plan.buckets:
        work = each.work
        told = f"{work.tokens:,} tokens, {each.gib:.1f} GiB, {each.seconds_per_step:.1f} s a step"
        rows.append((f"  {work.width}x{work.height}x{work.frames}", told))
    return rows


def _terms(terms: Terms, form: str) -> list[tuple[str, str]]:
    return [(f"  {name}", f"{value:{form}}") for name, value in terms.items()]


def ranged(value: float, band: float, unit: str) -> str:
    return f"{value:.1f} {unit} ({value * (1 - band):.1f} to {value * (1 + band):.1f})"


def length(plan: RunPlan) -> str:
    hours, cost = plan.hours, plan.cost
    if hours is None or cost is None:
        return "unknown: say how many clips with --clips, or set training.steps"
    together = " at once" if plan.at_once > 1 else ""
    experts = f"{plan.experts} experts{together} x " if plan.experts > 1 else ""
    sampling = plan.sample_seconds / 3600
    samples = f" of which {sampling:.1f} h render videos," if sampling else ""
    return (
        f"{experts}{plan.steps:,} steps: {ranged(hours, plan.time_band, 'h')},{samples} "
        f"costs {cost:.0f}; encoding not counted"
    )


def explained(confidence: str) -> str:
    return {
        "Measured": "Measured: rows of this GPU, method and size",
        "Extrapolated": "Extrapolated from rows of other sizes or settings",
        "Estimated": "Estimated: nothing like it has been measured",
    }[confidence]


def comparison(compared: Sequence[Planned]) -> str:
    first = compared[0]
    if first.plan is None:
        return description(first)
    head = f"WanFineTune {first.finetune.name}: {summary(first.plan)}\n"
    rows = [("GPU", "HAS", "NEEDS", "FITS", "S/STEP", "HOURS", "COST", "TIME IS")]
    for one in compared:
        plan = one.plan
        assert plan is not None
        training, gpu = plan.training, plan.training.gpu
        assert gpu is not None
        rows.append(
            (
                gpu.name,
                f"{gpu.memory_gib:.1f}",
                f"{training.gib:.1f}",
                training.verdict,
                f"{training.seconds_per_step:.1f}",
                "?" if plan.hours is None else f"{plan.hours:.1f}",
                "?" if plan.cost is None else f"{plan.cost:.0f}",
                f"{training.confidence} ±{plan.time_band:.0%}",
            )
        )
    return head + aligned(rows)


# For programs


def as_json(one: Planned) -> dict[str, Any]:
    if one.plan is None:
        return {"name": one.finetune.name, "preset": one.finetune.spec.model.preset, "fits": "yes"}
    plan, training = one.plan, one.plan.training
    work, gpu = training.work, training.gpu
    assert gpu is not None
    return {
        "name": one.finetune.name,
        "preset": work.preset,
        "method": work.method,
        "frames": work.frames,
        "width": work.width,
        "height": work.height,
        "tokens": work.tokens,
        "buckets": [
            {
                "width": each.work.width,
                "height": each.work.height,
                "frames": each.work.frames,
                "gpuGib": _rounded(each.gib),
                "secondsPerStep": _rounded(each.seconds_per_step),
            }
            for each in plan.buckets
        ],
        "gradientCheckpointing": work.checkpointing,
        "gpu": gpu.name,
        "fits": training.verdict,
        "fitsWith": one.remedies,
        "gpuGib": _rounded(training.gib),
        "gpuGibRange": [_rounded(each) for each in training.gib_range],
        "gpuGibTerms": {name: _rounded(value) for name, value in training.memory.items()},
        "secondsPerStep": _rounded(training.seconds_per_step),
        "secondsTerms": {name: _rounded(value) for name, value in training.seconds.items()},
        "timeErrorPercent": math.ceil(100 * plan.time_band),
        "experts": plan.experts,
        "steps": plan.steps,
        "hours": _rounded(plan.hours),
        "cost": _rounded(plan.cost),
        "confidence": training.confidence,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
