"""What a step's `run(job, store, work, report)` returns when it succeeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wan_runtime.contract.job import Certificate, ManifestRef
from wan_runtime.contract.verdict import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A committed artifact set, and a sentence about it."""

    manifest: ManifestRef
    message: str = ""
    """For people: '10 clips train, 2 held out'."""
    summary: Mapping[str, int | float | str] = field(default_factory=dict)
    """A few numbers for the status. Equal to the manifest's, where a repeated run finds them."""
    certificates: tuple[Certificate, ...] = ()
    """Certificates of exported weights, equal to the manifest's."""
    verdict: Verdict | None = None
    """What an evaluation found, equal to the manifest's."""
