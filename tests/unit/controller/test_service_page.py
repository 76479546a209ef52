"""The page of a gateway that the operator reads, at the size that services may have."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

from unit.controller.service_world import report
from wan_operator.api.v1alpha1.inference import MAX_REPLICAS
from wan_operator.api.v1alpha1.inference_model import MAX_ADAPTERS
from wan_operator.kinds.service import SERVICE
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import (
    PROBLEM_CHARACTERS,
    STATE_PAGE,
    AdapterNote,
    GatewayState,
    ServiceReport,
    Startup,
    WorkerReport,
)
from wan_runtime.serving.gateway.reporter import Reporter
from wan_runtime.serving.queue.queue import Queue


def largest() -> ServiceReport:
    """Of the largest service that its definition allows, with a canary of the same size; each
    worker says as much as it may."""
    names = [f"{number:02}".ljust(63, "a") for number in range(MAX_ADAPTERS)]
    said = "\N{MUSICAL SYMBOL G CLEF}" * PROBLEM_CHARACTERS  # 4 bytes each
    reason = Reason.STORE_ACCESS_DENIED
    notes = tuple(
        AdapterNote(name=name, ready=False, reason=reason, message=said) for name in names[1:]
    )

    def worker(number: int) -> WorkerReport:
        return WorkerReport(
            name=f"{number:04}".ljust(72, "w"),
            pod=f"{number:04}".ljust(63, "p"),
            revision=f"revision-{number % 2}",
            ready=True,
            ranks=8,
            startup=Startup(load_seconds=600.123, compile_seconds=50.123, warm_up_seconds=99.123),
            seconds_per_clip={f"{1280 + 16 * size}x720": 1234.567 for size in range(16)},
            peak_gib=139.51,
            adapters=(names[0],),
            adapter_notes=notes,
            attention="FlashAttention3",
            device="NVIDIA H100 80GB HBM3",
            problem=said,
            seen_seconds=12.345678,
        )

    workers = tuple(map(worker, range(2 * MAX_REPLICAS)))
    return report().model_copy(update={"workers": workers})


def test_the_page_of_the_largest_service_is_read() -> None:
    queue = cast(Queue, SimpleNamespace(report=AsyncMock(return_value=largest())))
    reporter = Reporter()
    asyncio.run(reporter.take(queue))
    status, _, body = reporter.pages(lambda: b"")[STATE_PAGE]()
    assert status == 200
    page = SERVICE.page
    assert page is not None
    assert len(body) < page.limit_bytes
    read = GatewayState.model_validate_json(body).service
    assert read is not None
    assert len(read.workers) == 2 * MAX_REPLICAS
    assert len(read.adapters) == 2 * MAX_ADAPTERS, "of two revisions"
    assert all(
        each.note is None or len(each.note.message) == PROBLEM_CHARACTERS for each in read.adapters
    )
    assert {(each.usable, each.faulty) for each in read.adapters} == {
        (MAX_REPLICAS, 0), (0, MAX_REPLICAS),
    }  # fmt: skip


def test_the_page_of_an_earlier_gateway_is_read() -> None:
    earlier = report().model_dump_json(by_alias=True)
    assert GatewayState.model_validate_json(earlier) == GatewayState(service=report())
