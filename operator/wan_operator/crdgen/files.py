"""All files that are generated from the models."""

from __future__ import annotations

from wan_operator.crdgen.docs import reference
from wan_operator.crdgen.manifest import chart_template, plain
from wan_operator.crdgen.troubleshooting import PAGE, troubleshooting
from wan_operator.kinds import KINDS


def generate() -> dict[str, str]:
    """Path from the repository's root -> content, of every generated file."""
    files: dict[str, str] = {}
    for kind in KINDS.values():
        name = kind.definition.file_name
        files[f"crds/{name}"] = plain(kind.definition)
        files[f"charts/wan-operator/templates/crds/{name}"] = chart_template(kind.definition)
    files["docs/api.md"] = reference(list(KINDS.values()))
    files[PAGE] = troubleshooting(list(KINDS.values()))
    return files
