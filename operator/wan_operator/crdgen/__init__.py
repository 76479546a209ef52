"""Models -> the CRDs, the chart's copy of them and the API reference: `python -m
wan_operator.crdgen`.

`generate` is pure; only `__main__` touches files.
"""

from __future__ import annotations

from wan_operator.crdgen.crd import KINDS
from wan_operator.crdgen.docs import reference
from wan_operator.crdgen.manifest import chart_template, plain

__all__ = ["generate"]


def generate() -> dict[str, str]:
    """Path from the repository's root -> content, of every generated file."""
    files: dict[str, str] = {}
    for kind in KINDS:
        files[f"crds/{kind.file_name}"] = plain(kind)
        files[f"charts/wan-operator/templates/crds/{kind.file_name}"] = chart_template(kind)
    files["docs/api.md"] = reference(KINDS)
    return files
