"""Job files of the earlier layout, which had the fields of a fine-tune beside the step's."""

from __future__ import annotations

from typing import Any

from wan_runtime.contract.steps import Step

FINE_TUNE = ("dataset", "lora", "full", "training", "sample", "formats")
"""Fields that stood at the top."""


# Attempts that started before an upgrade mount such a file until they end, and their pods may start
# anew meanwhile. To be removed in the first release after 0.1.0, of which no operator writes one.
def enveloped(content: Any) -> Any:
    """The content of a job file of version 1, which it need not say, in the layout of version 2;
    any other as it is."""
    if not isinstance(content, dict) or content.get("version", 1) != 1 or "work" in content:
        return content
    work = {"kind": "FineTune", **{name: content[name] for name in FINE_TUNE if name in content}}
    if content.get("step") == Step.IMPORT:  # it reads no dataset, and had to name one
        work = {"kind": "Import"}
    rest = {name: value for name, value in content.items() if name not in FINE_TUNE}
    return {**rest, "version": 2, "work": work}
