"""What the gateway says of adapters that no worker can use, and of requests that need them."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from object_store import BUCKET
from running_gateway import Hands, RunningGateway
from unit.serving.test_gateway import ask, error
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote, WorkerInfo
from wan_runtime.serving.gateway.availability import faulty

pytest_plugins = ["gateway_fixtures"]

CAUSE = f"s3://{BUCKET}/fairy is a pickle of PyTorch"
BAD = AdapterNote(name="fairy", ready=False, reason=Reason.MODEL_INVALID, message=CAUSE)
GOOD = AdapterNote(name="fairy", ready=True, message="2 of its layers are image branches")


def worker(name: str, note: AdapterNote | None, *, ready: bool = True) -> WorkerInfo:
    usable = () if note is None or not note.ready else ("fairy",)
    notes = () if note is None else (note,)
    return WorkerInfo(name=name, ready=ready, ranks=1, adapters=usable, adapter_notes=notes)


@pytest.mark.parametrize(
    ("workers", "known"),
    [
        ([], {}),
        ([worker("a", None)], {}),
        ([worker("a", GOOD)], {}),
        ([worker("a", BAD)], {"fairy": BAD}),
        ([worker("a", BAD), worker("b", GOOD)], {}),
        ([worker("a", BAD), worker("b", GOOD, ready=False)], {"fairy": BAD}),
        ([worker("a", BAD, ready=False)], {}),
    ],
)
def test_an_adapter_is_faulty_where_nobody_can_use_it(
    workers: list[WorkerInfo], known: dict[str, AdapterNote]
) -> None:
    assert faulty(workers) == known


@pytest.fixture
def tell(gateway: RunningGateway, hands: Hands) -> Callable[[WorkerInfo], None]:
    """Report as a worker, until the gateway has it."""

    def go(info: WorkerInfo) -> None:
        hands.do(hands.queue.alive(info))
        known = bool(faulty([info]))
        while bool(gateway.app.state.gateway.reporter.faulty_adapters()) is not known:
            hands.do(hands.queue.report())

    return go


def test_what_needs_it_is_refused_with_the_cause_until_it_is_mended(
    http: httpx.Client, hands: Hands, tell: Callable[[WorkerInfo], None]
) -> None:
    assert ask(http, model="anime-fairy").status_code == 200, "no worker has told yet"
    tell(worker("a", BAD))
    named = json.dumps([{"name": "fairy"}])
    for fields, param in (({"model": "anime-fairy"}, "model"), ({"adapters": named}, "adapters")):
        answer = ask(http, **fields)
        assert error(answer) == (400, "adapter_mismatch", param)
        assert answer.json()["error"]["message"] == f"adapter fairy cannot be used: {CAUSE}"
    guess = http.post("/v1/videos/estimate", json={"model": "anime-fairy"})
    assert error(guess) == (400, "adapter_mismatch", "model")
    assert ask(http).status_code == 200, "all else is served"

    base, effect = http.get("/v1/models").json()["data"]
    assert (base["available"], effect["available"]) == (True, False)
    told = {"name": "fairy", "strength": 1.0, "trigger": "", "distilled": None}
    assert effect["adapters"] == [{**told, "available": False, "problem": CAUSE}]

    tell(worker("a", GOOD))
    assert ask(http, model="anime-fairy").status_code == 200
    _, effect = http.get("/v1/models").json()["data"]
    assert effect["available"]
    assert effect["adapters"] == [{**told, "available": True, "problem": ""}]


def test_a_file_that_is_not_there_has_its_own_code(
    http: httpx.Client, tell: Callable[[WorkerInfo], None]
) -> None:
    gone = {"reason": Reason.MODEL_NOT_FOUND, "message": f"s3://{BUCKET}/fairy does not exist"}
    tell(worker("a", BAD.model_copy(update=gone)))
    assert error(ask(http, model="anime-fairy")) == (400, "adapter_unavailable", "model")


def test_an_effect_of_a_revision_to_come_is_not_listed(
    make_gateway: Callable[..., RunningGateway],
) -> None:
    """It has 20 steps, since its adapter is distilled no longer: what serves has the schedule."""
    turbo = {
        "name": "fairy",
        "files": {"Only": f"s3://{BUCKET}/fairy"},
        "distilled": {"steps": 4, "shift": 5},
    }
    uses = {"adapters": [{"name": "fairy"}]}
    slow = {"name": "slow", "sampling": {"steps": 20}} | uses
    quick = {"name": "quick"} | uses
    gateway = make_gateway(adapters=[turbo], effects=[slow, quick])
    with gateway.http() as http:
        names = [each["id"] for each in http.get("/v1/models").raise_for_status().json()["data"]]
        assert names == [gateway.service.name, "quick"]
        assert error(http.get("/v1/models/slow")) == (400, "invalid_request", "adapters")
        assert error(ask(http, model="slow")) == (400, "invalid_request", "adapters")
