"""`kubectl wan plan`: memory, time and cost of what is applied next. Offline."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec
from wan_operator.kubectl import finetune, service
from wan_operator.kubectl.documents import FineTune, Service, read_documents
from wan_operator.reconcile.finetune.fit import gpu_of
from wan_operator.yaml_files import DocumentError, yaml_documents
from wan_runtime.faults import value
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name, catalogue_of

DOES_NOT_FIT = 1
DIGITS = 9
"""Digits of a number of clips, at most."""

DESCRIPTION = """\
Shows what a WanFineTune or a WanInferenceService needs before it is applied: GPU memory and time by
part, hours or seconds per video, cost, and if it does not fit, the smallest changes that make it
fit. It needs no cluster.

Every number comes from a table of measurements on one H100. The ranges show how far it may be off,
and are wide where nothing has been measured. Rules that span several fields are checked by the API
server only: kubectl apply --dry-run=server.
"""
EXAMPLES = """\
examples:
  kubectl wan plan -f finetune.yaml --clips 100
  kubectl wan plan -f finetune.yaml --clips 100 --compare
  kubectl wan plan -f service.yaml
  cat finetune.yaml | kubectl wan plan -f - --gpu H200-141GB -o json

exit status: 0 all fit, 1 something does not fit, 2 the input is wrong
"""


def add_to(commands: Any) -> None:
    command: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="show memory, time and cost of a fine-tune or a service before it is applied",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE",
        help="YAML file with one or more documents, or - for standard input; may be repeated",
    )  # fmt: skip
    command.add_argument(
        "--clips", type=_positive, metavar="N",
        help="number of clips to train on; without it, the steps of a run of epochs are unknown",
    )  # fmt: skip
    command.add_argument(
        "--gpu", metavar="TYPE",
        help="GPU type of the catalogue to plan for (default: the nvidia.com/gpu.product of "
        "podTemplate.nodeSelector, for a service that of its workers; without one, all types)",
    )  # fmt: skip
    command.add_argument(
        "--catalogue", type=Path, metavar="FILE",
        help="YAML file with the Helm value gpuCatalogue, or with its list alone (default: the "
        "built-in catalogue)",
    )  # fmt: skip
    command.add_argument(
        "--compare", action="store_true", help="plan for all types of the catalogue, side by side"
    )
    command.add_argument(
        "-o", "--output", choices=("table", "json"), default="table",
        help="format of the output (default: %(default)s)",
    )  # fmt: skip
    command.set_defaults(run=run)


def _positive(text: str) -> int:
    if not text.isdecimal() or len(text) > DIGITS or int(text) < 1:
        wanted = f"must be a whole number of at least 1 and at most {DIGITS} digits"
        raise argparse.ArgumentTypeError(f"{wanted}, not {value(text)}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    catalogue = read_catalogue(options.catalogue)
    texts, rows, all_fit = [], [], True
    for document in read_documents(options.filename):
        gpu = chosen_gpu(options.gpu, document, catalogue)
        every = options.compare or gpu is None
        told = planned(document, None if every else gpu, catalogue, options.clips)
        texts.append(told.text)
        rows += told.rows
        all_fit = all_fit and told.fits
    print("\n\n".join(texts) if options.output == "table" else json.dumps(rows, indent=2))
    return 0 if all_fit else DOES_NOT_FIT


@dataclass(frozen=True, slots=True)
class Told:
    """Plan of one document."""

    text: str
    rows: list[dict[str, Any]]
    fits: bool
    """Always true for a comparison, which shows where it would."""


def planned(
    document: FineTune | Service, gpu: Gpu | None, catalogue: Sequence[Gpu], clips: int | None
) -> Told:
    """The plan on `gpu`; None: on all types of the catalogue."""
    if isinstance(document, FineTune):
        if gpu is None:
            runs = finetune.compare(document, catalogue, clips)
            return Told(finetune.comparison(runs), [finetune.as_json(each) for each in runs], True)
        one = finetune.planned(document, gpu, catalogue, clips)
        return Told(finetune.description(one), [finetune.as_json(one)], one.fits)
    if gpu is None:
        services = service.compare(document, catalogue)
        return Told(
            service.comparison(services), [service.as_json(each) for each in services], True
        )
    planned = service.planned(document, gpu, catalogue)
    return Told(service.description(planned), [service.as_json(planned)], planned.fits)


def read_catalogue(path: Path | None) -> tuple[Gpu, ...]:
    if path is None:
        return DEFAULTS
    documents = yaml_documents(str(path))
    content = documents[0] if documents else None
    if isinstance(content, dict) and "gpuCatalogue" in content:
        content = content["gpuCatalogue"]
    if len(documents) > 1 or not isinstance(content, list):
        raise DocumentError(
            f"{path} must hold one list of GPU types, alone or as the Helm value gpuCatalogue"
        )
    try:
        return catalogue_of(content)
    except ValueError as error:
        raise DocumentError(f"{path}: {error}") from error


def chosen_gpu(
    asked: str | None, document: FineTune | Service, catalogue: Sequence[Gpu]
) -> Gpu | None:
    if asked is None:
        spec = document.spec
        pods = spec.pod_template if isinstance(spec, WanFineTuneSpec) else spec.workers.pod_template
        return gpu_of(pods, None, catalogue)
    gpu = by_name(asked, catalogue)
    if gpu is None:
        known = ", ".join(each.name for each in catalogue)
        raise DocumentError(f"--gpu {value(asked)} is not in the catalogue: it has {known}")
    return gpu
