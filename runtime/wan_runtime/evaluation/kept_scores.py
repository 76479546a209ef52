"""The cache of scores, shared by all runs of a store prefix: no video is measured twice."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from wan_runtime.artifacts.errors import ObjectNotFound
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.clip_scores import ClipScores, Score, Unscored
from wan_runtime.contract.metric_names import METRICS, MetricName
from wan_runtime.evaluation.metrics import provenance
from wan_runtime.evaluation.metrics.score import NETWORKS
from wan_runtime.models.digest import canonical_json

log = logging.getLogger(__name__)

FOLDER = "scores"
"""Folder of the cache with what was measured: an object for each video beside a clip."""
NOTHING: Mapping[MetricName, str] = {}
LASTING: frozenset[Unscored] = frozenset(
    {"NoCameraTrack", "StillReference", "TooShort", "TooSmall"}
)
"""Reasons that hold for these clips whenever they are measured."""


class Known(Contract):
    """What a metric found, and what computed it."""

    score: Score
    by: str
    """Digest of the metric's definition, its settings and the versions of what computes it."""


class KeptScores(Contract):
    """An object of the cache."""

    known: dict[MetricName, Known]
    facts: ClipScores
    """What was compared, without scores."""


class ScoreCache:
    """Scores named after the content of the clips that they are of."""

    def __init__(
        self, store: Store, prefix: str, mounted: Mapping[MetricName, str] = NOTHING
    ) -> None:
        """`prefix`: of the caches. `mounted`: digests of what is mounted for a metric."""
        self._store, self._prefix = store, prefix
        self._by = {
            name: computed_by(name, mounted.get(name, ""))
            for name, each in METRICS.items()
            if each.mounted is None or name in mounted
        }

    def key(self, measured: Mapping[str, object]) -> str:
        """Key of the scores in the bucket. `measured`: the clips by content, and their timeline."""
        name = hashlib.sha256(canonical_json(dict(measured))).hexdigest()
        return f"{self._prefix}/{FOLDER}/{name}.json"

    def find(self, key: str, metrics: Sequence[MetricName]) -> ClipScores | None:
        """Scores of these metrics, as far as they are known as they would be measured now; None
        without any."""
        kept = self._read(key)
        if kept is None:
            return None
        found = {
            name: kept.known[name].score
            for name in metrics
            if name in kept.known and kept.known[name].by == self._by.get(name)
        }
        return kept.facts.model_copy(update={"scores": found}) if found else None

    def keep(self, key: str, found: ClipScores) -> None:
        """Write what will come out the same whenever it is measured, beside what is known. Nothing
        of clips that were not compared: a time limit leaves no facts, and would hide those that are
        known."""
        if not found.frames_compared:
            return
        new = {
            name: Known(score=score, by=self._by[name])
            for name, score in found.scores.items()
            if name in self._by and (score.value is not None or score.reason in LASTING)
        }
        if not new:
            return
        before = self._read(key)
        kept = KeptScores(
            known={**(before.known if before else {}), **new},
            facts=found.model_copy(update={"scores": {}}),
        )
        self._store.put_bytes(key, kept.model_dump_json(by_alias=True).encode())

    def _read(self, key: str) -> KeptScores | None:
        try:
            return KeptScores.model_validate_json(self._store.get_bytes(key))
        except ObjectNotFound:
            return None
        except ValidationError:
            log.warning("%s is damaged, or another release's: measured again", self._store.uri(key))
            return None


def computed_by(name: MetricName, mounted: str = "") -> str:
    """Digest of all but the clips that a number of this metric depends on."""
    networks = name in NETWORKS
    versions = {**provenance.versions(networks)}
    del versions["wan-operator"]  # the definition has a version of its own
    made = {
        "metric": name,
        "version": METRICS[name].version,
        "versions": versions,
        "settings": provenance.settings(),
        "mounted": mounted,
        "device": provenance.device(networks) if networks else "",
    }
    return hashlib.sha256(canonical_json(made)).hexdigest()
