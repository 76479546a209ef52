"""Fetches what ranks need of an order: the first frame and the adapters. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.artifacts.store import ObjectNotFound, Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote
from wan_runtime.contract.service import AdapterUse, ServiceSpec
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.applied import AppliedAdapter, naming
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.rendering.order import Job
from wan_runtime.serving.worker.adapter_notes import refusal
from wan_runtime.serving.worker.messages import Render


@dataclass(frozen=True, slots=True)
class Inputs:
    """Access to the inputs of one service's orders."""

    service: ServiceSpec
    store: Store
    adapters: AdapterFiles
    notes: Mapping[str, AdapterNote]
    """Notes of adapters, by name, as the ranks found them."""

    def fetch(self, job: Job, folder: Path) -> Render:
        """Into `folder`. Blocks.

        Raises:
            InputError: if the order's picture, or an adapter's file, is not there.
            InfrastructureError: of the store.
        """
        adapters = tuple(map(self._adapter, job.order.adapters))
        return Render(
            job_id=job.id,
            order=job.order,
            image=str(self._picture(job.order.image, folder / "first-frame.png")),
            adapters=adapters,
            frames=str(folder / "frames.npy"),
        )

    def _picture(self, key: str | None, path: Path) -> Path:
        if key is None:
            raise InputError(
                Reason.CLIP_INVALID, "the order has no picture: this model starts from one"
            )
        try:
            self.store.download(key, path)
        except ObjectNotFound as error:
            raise InputError(
                Reason.CLIP_INVALID, "the order's picture is gone: it is kept until its job ends"
            ) from error
        return path

    def _adapter(self, use: AdapterUse) -> AppliedAdapter:
        spec = self.service.adapter(use.name)
        assert spec is not None, "a job is claimed only if its adapters are the service's"
        note = self.notes.get(use.name)
        if note is not None and not note.ready:
            raise refusal(note)
        with naming(use.name):
            return self.adapters.apply(spec, use)
