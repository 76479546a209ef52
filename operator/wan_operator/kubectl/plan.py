"""`kubectl wan plan`: memory, time and cost of what is applied next. Offline."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wan_operator.api.v1alpha1 import evaluation as evaluation_api
from wan_operator.api.v1alpha1 import finetune as finetune_api
from wan_operator.api.v1alpha1 import inference as service_api
from wan_operator.kubectl.documents import read_documents
from wan_operator.kubectl.evaluation import EVALUATION
from wan_operator.kubectl.finetune import FINETUNE
from wan_operator.kubectl.kind import Document, PlannedKind
from wan_operator.kubectl.service import SERVICE
from wan_operator.reconcile.gpus import PRODUCT, gpu_of
from wan_operator.yaml_files import DocumentError, yaml_documents
from wan_runtime.faults import value
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name, catalogue_of

KINDS: dict[str, PlannedKind[Any, Any]] = {
    finetune_api.KIND: FINETUNE,
    service_api.KIND: SERVICE,
    evaluation_api.KIND: EVALUATION,
}
DOES_NOT_FIT = 1
DIGITS = 9
"""Digits of a number of clips, at most."""

DESCRIPTION = """\
Shows what a WanFineTune, a WanInferenceService or a WanEvaluation needs before it is applied: GPU
memory and time by part, hours or seconds per video, cost, and if it does not fit, the smallest
changes that make it fit. It needs no cluster.

Every number comes from measurements on an H100 and an H200. The ranges show how far it may be off,
and are wide where nothing has been measured. What the schema of the CRD refuses is refused with the
words of kubectl apply; what the cluster decides, such as quotas, is left to it.
"""
EXAMPLES = """\
examples:
  kubectl wan plan -f finetune.yaml --clips 100
  kubectl wan plan -f finetune.yaml --clips 100 --compare
  kubectl wan plan -f service.yaml
  kubectl wan plan -f finetune.yaml -f evaluation.yaml
  cat finetune.yaml | kubectl wan plan -f - --gpu H200-141GB -o json

exit status: 0 all fit, 1 something does not fit, 2 the input is wrong
"""


def add_to(commands: Any) -> None:
    command: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="show memory, time and cost of a resource before it is applied",
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
    documents = tuple(read_documents(options.filename, KINDS))
    for each in documents:
        document = replace(each, beside=documents)
        kind = KINDS[document.kind]
        gpu = chosen_gpu(options.gpu, document, catalogue)
        label = kind.pod_template(document.spec).node_selector.get(PRODUCT)
        if gpu is None and label is not None:
            # Pods would wait for such a node, or the catalogue lacks a type of the cluster.
            note = (
                f"{document.kind} {document.name}: {PRODUCT} {value(label)} is not in the catalogue"
            )
            print(f"{note}: all its types are compared", file=sys.stderr)
        if options.compare or gpu is None:
            plan = kind.on_all(document, catalogue, options.clips)
        else:
            plan = kind.on_one(document, gpu, catalogue, options.clips)
        texts.append(plan.text)
        rows += plan.rows
        all_fit = all_fit and plan.fits
    print("\n\n".join(texts) if options.output == "table" else json.dumps(rows, indent=2))
    return 0 if all_fit else DOES_NOT_FIT


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


def chosen_gpu(name: str | None, document: Document[Any], catalogue: Sequence[Gpu]) -> Gpu | None:
    if name is None:
        return gpu_of(KINDS[document.kind].pod_template(document.spec), None, catalogue)
    gpu = by_name(name, catalogue)
    if gpu is None:
        known = ", ".join(each.name for each in catalogue)
        raise DocumentError(f"--gpu {value(name)} is not in the catalogue: it has {known}")
    return gpu
