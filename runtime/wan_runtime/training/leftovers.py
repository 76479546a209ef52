"""What training keeps in the store until its result is safe: checkpoints and the best weights."""

from __future__ import annotations

import logging

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.left import FOLDERS
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.training.experts import parts_of, prefixes, trains_both

log = logging.getLogger(__name__)


def remove(job: JobSpec, store: Store, result: ManifestRef) -> None:
    """Delete them, once every file of the result is seen to be in the store. Again after a kill.

    Raises ArtifactCorrupt if the result is not whole; then the next attempt resumes from them.
    """
    whole = manifest.verify(store, result)
    if trains_both(job):
        for part in parts_of(whole, job).values():
            manifest.verify(store, part)
    places = [f"{prefix}/{folder}/" for prefix in prefixes(job) for folder in FOLDERS]
    try:
        for place in places:
            store.delete([entry.key for entry in store.list(place)])
    except InfrastructureError as error:
        if error.reason is not Reason.STORE_ACCESS_DENIED:
            raise
        # The result is there: no reason to fail its run.
        log.warning("delete %s yourself: %s", " and ".join(map(store.uri, places)), error.message)
