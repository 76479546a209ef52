"""The weights of the lowest probe loss, kept in the store until the end of training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.models.weights import Layout, SafetensorsFiles
from wan_runtime.training.checkpoint import name_of
from wan_runtime.training.method import Method

KIND = "best"


def best_step(probes: Sequence[Mapping[str, Any]], until: int | None = None) -> int | None:
    """Step of the lowest mean probe loss, up to and with `until`; step 0, the base model, does not
    count. None if there is none yet.
    """
    trained = [p for p in probes if p["step"] > 0 and (until is None or p["step"] <= until)]
    if not trained:
        return None
    return int(min(trained, key=lambda probe: float(probe["losses"]["mean"]))["step"])


class BestWeights:
    """One set a step at `<prefix>/step-00000100/`, in the method's own files."""

    def __init__(
        self, store: Store, prefix: str, work: Path, lineage: Lineage, method: Method
    ) -> None:
        self._store, self._prefix, self._work = store, prefix, work
        self._lineage, self._method = lineage, method

    def save(self, step: int, layout: Layout, weight: Callable[[str], Tensor]) -> None:
        """Commit the weights of this step."""
        about = {"preset": self._lineage.preset, "expert": str(self._lineage.expert)}
        manifest.commit_pieces(
            self._store,
            self._at(step),
            self._method.write(layout, weight, self._fresh(), about),
            kind=KIND,
            lineage=self._lineage,
            summary={"step": step},
        )

    def keep(self, steps: set[int]) -> None:
        """Remove all others."""
        wanted = tuple(f"{self._at(step)}/" for step in steps)
        keys = [entry.key for entry in self._store.list(f"{self._prefix}/")]
        self._store.delete([key for key in keys if not key.startswith(wanted)])

    def restore(self, step: int, write: Callable[[str, Tensor], None]) -> None:
        """Write those of that step, one after another. Raises ArtifactCorrupt."""
        found = manifest.find(self._store, self._at(step))
        assert found is not None, f"the best weights, of step {step}, were never saved"
        for path in manifest.fetch_pieces(self._store, found[0], self._fresh()):
            with SafetensorsFiles([path]) as tensors:
                for name in tensors:
                    write(name, tensors[name])

    def _fresh(self) -> Path:
        folder = self._work / "best"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _at(self, step: int) -> str:
        return f"{self._prefix}/{name_of(step)}"
