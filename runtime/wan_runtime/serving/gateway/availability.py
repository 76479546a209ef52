"""Adapters that no worker can use: /v1/models names them, and requests for them are refused."""

from __future__ import annotations

from collections.abc import Iterable

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote, WorkerInfo
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.serving.problems import Code, Refusal


def faulty(workers: Iterable[WorkerInfo]) -> dict[str, AdapterNote]:
    """Adapters by name that a ready worker cannot use and none can. Where no worker is ready,
    nothing is known."""
    at_work = [each for each in workers if each.ready]
    usable = {name for each in at_work for name in each.adapters}
    notes = (note for each in at_work for note in each.adapter_notes)
    return {note.name: note for note in notes if not note.ready and note.name not in usable}


def refuse_faulty(order: VideoOrder, service: ServiceSpec, notes: dict[str, AdapterNote]) -> None:
    """Raises Refusal for an order that needs one of them."""
    for use in order.adapters:
        note = notes.get(use.name)
        if note is None:
            continue
        effect = service.effect(order.model)
        of_effect = effect is not None and any(each.name == use.name for each in effect.adapters)
        code = Code.ADAPTER_UNAVAILABLE
        if note.reason is Reason.MODEL_INVALID:
            code = Code.ADAPTER_MISMATCH
        raise Refusal(
            code,
            f"adapter {note.name} cannot be used: {note.message}",
            param="model" if of_effect else "adapters",
        )
